//! A pod's interface in unusual states: its answers come all the same, whatever their way.

use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::xdp::XdpMode;
use aya::programs::{Xdp, xdp::XdpLink};
use dns_cache::datapath::verified;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Agent, Family, Flavour, Lab, OrPanic, Pod, Query, Transport, xdp};

use crate::{assert_web, fresh, lab_with_agent};

/// Answers of all kinds reach a pod: from the kernel and from the resolver, short and of 1,232 bytes, over UDP and TCP.
#[track_caller]
fn assert_all_kinds(lab: &Lab, agent: &Agent, pod: &Pod, turn: u16) {
    lab.node().conntrack().flush();
    let before = agent.counters();
    for (index, family) in (0..).zip(Family::BOTH) {
        let client = pod.client(family).timeout(Duration::from_secs(2));
        for transport in Transport::ALL {
            for _ in 0..2 {
                assert_web(&client, transport);
            }
            let large = Query::new("huge.types.svc.cluster.local", rtype::A).edns(1232);
            for query in [
                &large,
                &large,
                &Query::new(&fresh(turn * 10 + index), rtype::A),
            ] {
                let reply = client.ask(transport, query);
                let what = format_args!("{} over {transport:?} {family:?}", query.name);
                assert_eq!(reply.or_panic(what).message.rcode(), 0);
            }
        }
    }
    let after = agent.counters();
    assert!(
        before.answered(&after) > 0 && before.resolved(&after) > 0,
        "{after:?}"
    );
    lab.node().conntrack().assert_no_pod_dns();
}

/// Turns features of a pod's interface on or off; without a word where the driver has them fixed.
fn ethtool(pod: &Pod, features: &[&str]) {
    let mut command = Command::new("ethtool");
    pod.netns()
        .succeed(command.args(["-K", "eth0"]).args(features));
}

#[test]
fn an_interface_that_was_down() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        assert_all_kinds(&lab, &agent, lab.pod(0), 0);
        for (turn, down) in (1..).zip([
            // In the pod, whose routes go with it, and on the node.
            |pod: &Pod, _: &Lab| pod.netns().ip("link set eth0 down\n"),
            |pod: &Pod, lab: &Lab| {
                let veth = pod.veth();
                lab.node()
                    .netns()
                    .ip(&format!("link set {veth} down\nlink set {veth} up\n"));
            },
        ]) {
            down(lab.pod(0), &lab);
            lab.pod(0).reconnect();
            assert_all_kinds(&lab, &agent, lab.pod(0), turn);
        }
    }
}

/// Smaller than the answers: nothing on the way between the two namespaces cuts them into pieces.
#[test]
fn a_smaller_mtu() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for (turn, mtu) in (0..).zip([1_400, 1_280]) {
        lab.pod(0).netns().ip(&format!("link set eth0 mtu {mtu}\n"));
        assert_all_kinds(&lab, &agent, lab.pod(0), turn);
        let veth = lab.pod(0).veth();
        lab.node()
            .netns()
            .ip(&format!("link set {veth} mtu {mtu}\n"));
        assert_all_kinds(&lab, &agent, lab.pod(0), turn + 2);
    }
}

#[test]
fn offloads_on_and_off() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        for (turn, features) in (0..).zip([
            &["tx", "off"][..],
            &["gro", "on"],
            &["gro", "off", "tso", "off", "gso", "off"],
            &["tx", "on", "gro", "on"],
        ]) {
            ethtool(lab.pod(0), features);
            assert_all_kinds(&lab, &agent, lab.pod(0), turn);
        }
    }
}

/// Replies are delivered behind it; what it drops would not be dropped, but nothing is lost. (README, Limits.)
#[test]
fn an_xdp_program_in_the_pod() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for (turn, mode) in (0..).zip([XdpMode::Skb, XdpMode::Driver]) {
        let _attached = lab.pod(0).netns().run(|| {
            let mut object = Ebpf::load(&xdp::pass()).or_panic("loading an XDP program");
            let program = object.program_mut("pass").or_panic("it has one program");
            let program: &mut Xdp = program.try_into().or_panic("which is of XDP");
            verified(|| program.load()).or_panic("loading it");
            let id = program.attach("eth0", mode).or_panic("attaching it");
            let link: XdpLink = program.take_link(id).or_panic("its link");
            (link, object)
        });
        assert_all_kinds(&lab, &agent, lab.pod(0), turn);
    }
}
