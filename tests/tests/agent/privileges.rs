//! What the agent may do while it works, and that it works with that.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use dns_cache_tests::{Agent, AgentConfig, Family, Lab, OrPanic, Transport, Way, tools};

use crate::{assert_web, attach_modes};

/// Bits of capabilities (`linux/capability.h`).
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const BPF: u64 = 1 << 39;

/// As the chart gives them.
const CHART: &str = "+net_admin,+bpf,+perfmon,+sys_admin,+net_bind_service";

/// The agent's binary behind a script that leaves it only these capabilities.
fn limited(lab: &Lab, capabilities: &str) -> PathBuf {
    let script = lab.scope().dir().join("limited");
    let text = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all,{capabilities} -- {:?} \"$@\"\n",
        tools::agent()
    );
    fs::write(&script, text).or_panic("writing a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).or_panic("a script's mode");
    script
}

/// A thread's name, and what its status says.
struct Thread {
    name: String,
    status: String,
}

impl Thread {
    fn all(agent: &Agent) -> Vec<Self> {
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.process().pid()));
        let tasks = tasks.or_panic("listing the agent's threads");
        tasks
            .map(|task| {
                let task = task.or_panic("a thread").path();
                let read = |name: &str| fs::read_to_string(task.join(name)).or_panic(name);
                Self {
                    name: read("comm").trim().to_owned(),
                    status: read("status"),
                }
            })
            .collect()
    }

    fn field(&self, name: &str) -> &str {
        let mut lines = self.status.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| *key == name);
        found.or_panic(name).1.trim()
    }

    fn set(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).or_panic(name)
    }
}

/// No thread has more than its work takes, in any set, and none can get more by executing something.
fn assert_little_is_left(agent: &Agent, bounded: bool) {
    let threads = Thread::all(agent);
    assert!(threads.iter().any(|thread| thread.name == "resident"));
    for thread in threads {
        let kept = match &*thread.name {
            "resident" => NET_ADMIN | NET_BIND_SERVICE,
            _ => NET_ADMIN | BPF,
        };
        let name = &thread.name;
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(thread.set(set), kept, "{set} of {name}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(thread.set(set), 0, "{set} of {name}");
        }
        if bounded {
            assert_eq!(thread.set("CapBnd"), kept, "CapBnd of {name}");
        }
        assert_eq!(thread.field("NoNewPrivs"), "1", "{name}");
    }
}

/// Whatever asks for privileges later: another address, another pod.
fn assert_works(lab: &Lab, agent: &Agent, config: &AgentConfig) {
    for family in Family::BOTH {
        let before = agent.counters();
        assert_web(&lab.pod(0).client(family), Transport::Tcp);
        assert_ne!(before.way(&agent.counters()), Way::Ordinary);
    }
    let local: IpAddr = "169.254.20.10".parse().or_panic("an address");
    let mut with_local = config.clone();
    with_local.listen.push(local);
    agent.reload(&with_local);
    let client = lab.pod(0).client(Family::V4);
    for transport in Transport::ALL {
        assert_web(
            &client.clone().server(SocketAddr::new(local, 53)),
            transport,
        );
    }
    agent.reload(config);
    let pod = lab.add_pod();
    agent.wait_for(&[pod.veth()], std::time::Duration::from_secs(10));
    let before = agent.counters();
    assert_web(&pod.client(Family::V4), Transport::Connected);
    assert_ne!(before.way(&agent.counters()), Way::Ordinary);
}

#[test]
fn what_the_start_needs_is_given_up_and_all_goes_on() {
    for (capabilities, bounded) in [
        (format!("{CHART},+setpcap"), true),
        (CHART.to_owned(), false),
    ] {
        for attach in attach_modes() {
            let lab = Lab::builder().start();
            let config = AgentConfig {
                binary: Some(limited(&lab, &capabilities)),
                attach: attach.to_owned(),
                ..AgentConfig::default()
            };
            // The second one finds what the first one left.
            for _ in 0..2 {
                let agent = lab.agent(&config);
                assert_little_is_left(&agent, bounded);
                assert_works(&lab, &agent, &config);
                assert_little_is_left(&agent, bounded);
                agent.kill9();
            }
        }
    }
}

#[test]
fn root_gives_up_all_else() {
    let lab = Lab::builder().start();
    let config = AgentConfig::default();
    let agent = lab.agent(&config);
    assert_little_is_left(&agent, true);
    assert_works(&lab, &agent, &config);
}

#[test]
fn what_is_missing_is_named() {
    let lab = Lab::builder().start();
    let binary = limited(&lab, "+net_admin,+bpf,+net_bind_service");
    let mut command = Command::new(binary);
    command.args([
        "run",
        "--listen",
        "10.96.0.10",
        "--cluster-upstreams",
        "10.244.1.2",
    ]);
    let output = lab.node().netns().run(|| command.output());
    let output = output.or_panic("starting the agent");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("CAP_SYS_ADMIN is missing (to make the resolver's network namespace")
            && said.contains("CAP_PERFMON is missing")
            && !said.contains("CAP_BPF is missing"),
        "{said}"
    );
}
