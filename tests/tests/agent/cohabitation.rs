//! Others on the node: their programs go on running behind ours, and there is one agent.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, ProgramInfo, SchedClassifier, TcAttachType};
use dns_cache::datapath::{self, LoadOptions, verified};
use dns_cache::kernel_cache::random_seed;
use dns_cache_tests::addresses::LINK_LOCAL;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Family, Flavour, Lab, OrPanic, Pod, Query, Transport,
};

use crate::{WEB, assert_web, attach_modes, fallback, lab_with_agent};

/// Of the first replica's own address, which is not intercepted.
fn client_of_the_replica(lab: &Lab, pod: &Pod) -> Client {
    let replica = lab.dns().endpoints()[0].dns(Family::V4);
    pod.client(Family::V4).server(replica)
}

/// Whether a query to it is answered; it shall not be.
fn asks_the_replica(lab: &Lab, pod: &Pod) -> bool {
    client_of_the_replica(lab, pod)
        .timeout(Duration::from_millis(500))
        .ask(Transport::Connected, &Query::new(WEB, rtype::A))
        .is_ok()
}

/// Where others put filters: at the first place, as Cilium does, and far behind.
const PLACES: [&str; 2] = [
    "protocol all prio 1 handle 1",
    "protocol ip prio 10 handle 1",
];
/// Programs of one instruction: return `TC_ACT_SHOT`, or `TC_ACT_OK`, which ends the chain.
const DROP: &str = "bpf da bytecode 1,6 0 0 2,";
const PASS: &str = "bpf da bytecode 1,6 0 0 0,";

/// `tc` in the node's namespace, with a command line in which `DEV` stands for the pod's interface.
fn tc(lab: &Lab, pod: &Pod, line: &str) -> String {
    let mut command = Command::new("tc");
    // The bytecode is one word.
    let (words, bytecode) = line.split_once("bytecode ").unwrap_or((line, ""));
    command.args(words.split_whitespace().map(|word| match word {
        "DEV" => pod.veth(),
        word => word,
    }));
    if !bytecode.is_empty() {
        command.args(["bytecode", bytecode]);
    }
    lab.node().netns().succeed(&mut command)
}

/// A filter that drops what reaches it, as a CNI's policy might: a packet that we leave alone must reach it.
#[test]
fn programs_behind_ours_still_run() {
    for (attach, place) in attach_modes()
        .into_iter()
        .flat_map(|attach| PLACES.map(|place| (attach, place)))
    {
        let lab = Lab::builder().start();
        let pod = lab.pod(0);
        assert_web(&client_of_the_replica(&lab, pod), Transport::Connected);
        tc(&lab, pod, "qdisc add dev DEV clsact");
        tc(
            &lab,
            pod,
            &format!("filter add dev DEV ingress {place} {DROP}"),
        );
        let others = tc(&lab, pod, "filter show dev DEV ingress");
        assert!(!asks_the_replica(&lab, pod), "the filter drops");
        let agent = lab.agent(&AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        });
        assert!(
            !asks_the_replica(&lab, pod),
            "it still drops behind our program ({attach}, {place})"
        );
        assert_web(&pod.client(Family::V4), Transport::Connected);
        agent.stop();
        assert!(
            !asks_the_replica(&lab, pod),
            "and after our agent's end ({attach}, {place})"
        );
        agent.detach();
        assert_eq!(
            tc(&lab, pod, "filter show dev DEV ingress"),
            others,
            "the filter and its qdisc outlive a detach ({attach}, {place})"
        );
    }
}

/// Whoever takes our filter off, or comes before it, has the packets for some seconds.
#[test]
fn a_filter_of_ours_that_others_displace_comes_back() {
    let lab = Lab::builder().start();
    let pod = lab.pod(0);
    let agent = lab.agent(&AgentConfig {
        attach: "clsact".to_owned(),
        ..AgentConfig::default()
    });
    let is_served = || {
        let before = agent.counters();
        assert_web(&pod.client(Family::V4), Transport::Connected);
        before.resolved(&agent.counters()) + before.answered(&agent.counters()) > 0
    };
    assert!(is_served());
    let displacements = [
        (
            "filter add dev DEV ingress protocol all prio 1 handle 1",
            "another's program runs before ours",
        ),
        ("filter del dev DEV ingress", "our program was taken off"),
        ("qdisc del dev DEV clsact", "our program was taken off"),
    ];
    for (earlier, (what, said)) in displacements.into_iter().enumerate() {
        let times = |text: &str| agent.log().matches(text).count();
        tc(
            &lab,
            pod,
            &match what.contains("add") {
                true => format!("{what} {PASS}"),
                false => what.to_owned(),
            },
        );
        let end = Instant::now() + Duration::from_secs(60);
        while times("in front again") == earlier {
            assert!(Instant::now() < end, "{what}: {}", agent.log());
        }
        assert!(times(said) > 0, "{what}: {}", agent.log());
        assert!(is_served(), "{what}");
        assert_eq!(filters(&lab, pod).len(), 1, "{what}");
    }
}

/// The same of those for what goes to a pod, and on the resolver's link: without the first, a dead agent's link-local
/// address is not answered; without the others, nobody is.
#[test]
fn filters_of_ours_in_other_places_come_back() {
    let lab = Lab::builder().start();
    let pod = lab.pod(0);
    let agent = lab.agent(&fallback::config("clsact"));
    let client = pod.client(Family::V4);
    assert_web(&client, Transport::Tcp);
    let places = [
        ("DEV", "egress", "pod_egress"),
        ("dnscache0", "ingress", "resolver_ingress"),
        ("dnscache0", "egress", "host_egress"),
    ];
    for (earlier, (device, direction, program)) in places.into_iter().enumerate() {
        let show = || tc(&lab, pod, &format!("filter show dev {device} {direction}"));
        assert!(show().contains(program), "{}", show());
        tc(&lab, pod, &format!("filter del dev {device} {direction}"));
        let times = |text: &str| agent.log().matches(text).count();
        let end = Instant::now() + Duration::from_secs(60);
        while times("in front again") == earlier {
            assert!(Instant::now() < end, "{program}: {}", agent.log());
        }
        assert_eq!(times("our program was taken off"), earlier + 1);
        let there = show();
        let ours = there.lines().filter(|line| line.contains(program));
        assert_eq!(ours.count(), 1, "{there}");
        let before = agent.counters();
        assert_web(&client, Transport::Tcp);
        assert!(before.resolved(&agent.counters()) > 0, "{program}");
    }
    agent.kill9();
    let client = client.server(LINK_LOCAL.dns(Family::V4));
    fallback::Names(0).ask(&client, Transport::Connected);
}

/// Our clsact filters on a pod's interface.
fn filters(lab: &Lab, pod: &Pod) -> Vec<String> {
    let text = tc(lab, pod, "filter show dev DEV ingress");
    let ours = text.lines().filter(|line| line.contains("pod_ingress"));
    ours.map(str::to_owned).collect()
}

/// The pin of a TCX link on a pod's interface.
fn pin(lab: &Lab, pod: &Pod, agent: &Agent) -> PathBuf {
    let mut command = Command::new("ip");
    command.args(["-oneline", "link", "show", "dev", pod.veth()]);
    let text = lab.node().netns().succeed(&mut command);
    let ifindex = text.split(':').next().or_panic("reading ip's output");
    agent.bpffs().join("links").join(ifindex)
}

/// What an agent in one mode left is not there beside what the next one attaches in the other.
#[test]
fn a_change_of_mode_leaves_nothing_behind() {
    let lab = Lab::builder().start();
    for attach in [attach_modes(), attach_modes()].concat() {
        let expected = usize::from(attach == "clsact");
        let agent = lab.agent(&AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        });
        assert_web(&lab.pod(0).client(Family::V6), Transport::Connected);
        let found = filters(&lab, lab.pod(0));
        assert_eq!(found.len(), expected, "{attach}: {found:?}");
        agent.stop();
    }
}

/// A pod that a new configuration leaves out is on the ordinary way, not on an earlier agent's.
#[test]
fn an_interface_that_is_left_out_is_let_go() {
    for attach in attach_modes() {
        let lab = Lab::builder().start();
        let config = AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        };
        let first = lab.agent(&config);
        let left = || {
            let pinned = pin(&lab, lab.pod(1), &first).exists();
            usize::from(pinned) + filters(&lab, lab.pod(1)).len()
        };
        assert_eq!(left(), 1, "{attach}");
        first.kill9();
        assert_eq!(left(), 1, "a killed agent leaves its program ({attach})");
        let config = AgentConfig {
            interfaces: vec!["veth*".to_owned(), format!("!{}", lab.pod(1).veth())],
            ..config
        };
        let agent = lab.agent_on(&config, &[lab.pod(0).veth()]);
        assert_eq!(left(), 0, "the next one takes it away ({attach})");
        let before = agent.counters();
        for transport in Transport::ALL {
            assert_web(&lab.pod(1).client(Family::V4), transport);
        }
        assert_eq!(before.resolved(&agent.counters()), 0, "{attach}");
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
        assert_eq!(before.resolved(&agent.counters()), 1, "{attach}");
    }
}

#[test]
fn a_second_agent_is_refused_and_harms_nobody() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let other = agent.state_dir().with_file_name("other");
    let bpffs = other.with_file_name("other-bpf");
    let (state_dir, bpffs) = (other.display().to_string(), bpffs.display().to_string());
    for command in [
        &[
            "run",
            "--listen",
            "10.96.0.10",
            "--cluster-upstreams",
            "192.0.2.1",
        ][..],
        &["detach"],
    ] {
        let mut program = Command::new(dns_cache_tests::tools::agent());
        program
            .args(command)
            .args(["--state-dir", &state_dir, "--bpffs", &bpffs]);
        let output = lab.node().netns().output(&mut program);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{command:?}");
        assert!(said.contains("another agent runs"), "{command:?}: {said}");
        let before = agent.counters();
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(Family::V4), transport);
        }
        let after = agent.counters();
        assert!(before.resolved(&after) + before.answered(&after) >= 3);
    }
}

/// Another's program that ends the chain comes in front of ours: it is found, said, and put behind ours again.
#[test]
fn an_interface_that_another_program_took_is_taken_back() {
    let lab = Lab::builder().start();
    // What ours leave alone is the other one's.
    let agent = lab.agent(&AgentConfig::default().with_link_local());
    let (veth, netns) = (lab.pod(0).veth(), lab.node().netns());
    // The one of the benchmark: it sends queries back as their own answers.
    let options = LoadOptions {
        log_level: 0,
        patience: Duration::ZERO,
        cache: None,
        seed: random_seed(),
        node: 0,
        unguarded: false,
    };
    let mut object = datapath::load(&options).or_panic("loading a program");
    let program = object.program_mut("reflect").or_panic("it is there");
    let program: &mut SchedClassifier = program.try_into().or_panic("and of tc");
    verified(|| program.load()).or_panic("loading it");
    let behind = || {
        let status = agent.status().or_panic("asking for the status");
        let interfaces = status["datapath"]["interfaces"].as_array().cloned();
        let mut interfaces = interfaces.into_iter().flatten();
        let ours = interfaces.find(|interface| interface["name"] == veth);
        ours.and_then(|ours| ours["behind"].as_u64())
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut said = Vec::new();
    // The first time ours is put in front at once, the second time after a while, for which the status says it.
    for round in 1..=2 {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let attach = || program.attach_with_options(veth, TcAttachType::Ingress, options);
        let link = netns.run(attach).or_panic("attaching it");
        while agent.log().matches("in front again").count() < round {
            said.extend(behind());
            assert!(Instant::now() < end, "round {round}: {}", agent.log());
        }
        assert_eq!(behind(), None, "round {round}");
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(Family::V4), transport);
        }
        program.detach(link).or_panic("detaching it");
    }
    // Elsewhere as well.
    let places = [
        (veth, TcAttachType::Egress, "pod_egress"),
        ("dnscache0", TcAttachType::Ingress, "resolver_ingress"),
        ("dnscache0", TcAttachType::Egress, "host_egress"),
    ];
    let end = Instant::now() + Duration::from_secs(120);
    for (round, (device, direction, ours)) in (3..).zip(places) {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let attach = || program.attach_with_options(device, direction, options);
        let link = netns.run(attach).or_panic("attaching it");
        while agent.log().matches("in front again").count() < round {
            assert!(Instant::now() < end, "{ours}: {}", agent.log());
        }
        let found = netns.run(|| SchedClassifier::query_tcx(device, direction));
        let (_, found) = found.or_panic("asking for an interface's programs");
        let found: Vec<_> = found.iter().filter_map(ProgramInfo::name_as_str).collect();
        // The kernel cuts a name after fifteen bytes.
        assert_eq!(found, [&ours[..ours.len().min(15)], "reflect"]);
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(Family::V4), transport);
        }
        program.detach(link).or_panic("detaching it");
    }
    let id = program.info().or_panic("asking for its id").id();
    assert!(
        said.contains(&id.into()),
        "what the status has said: {said:?}"
    );
    assert!(agent.log().contains("another's program runs before ours"));
    lab.node().conntrack().assert_no_pod_dns();
}
