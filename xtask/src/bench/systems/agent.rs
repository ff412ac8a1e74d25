//! dns-cache itself.

use anyhow::Result;
use dns_cache_tests::AgentConfig;

use super::{Setting, Started, System, cluster_ip, lab, version};

pub(super) const KERNEL: System = System {
    key: "dns-cache-kernel",
    title: "dns-cache, kernel hit",
    about: "the agent as it is installed: the tc program on the pod's veth answers what is cached, the rest goes to the resolver as below",
    start: |setting| start(setting, ""),
};

pub(super) const USERSPACE: System = System {
    key: "dns-cache-userspace",
    title: "dns-cache, userspace path",
    about: "the same with cache.kernel: false: hand-over to the resolver's namespace, its own cache; CoreDNS is asked over TCP",
    start: |setting| start(setting, "cache:\n  kernel: false\n"),
};

fn start(setting: &Setting, extra: &str) -> Result<Started> {
    let lab = lab();
    let agent = lab.agent(&AgentConfig {
        binary: Some(setting.agent.clone()),
        // The tests' level has log records in the programs.
        log_level: "warn".to_owned(),
        extra: extra.to_owned(),
        ..AgentConfig::default()
    });
    Ok(Started {
        server: cluster_ip(),
        processes: vec![agent.process().pid()],
        programs: Some(agent.process().pid()),
        version: version(&setting.agent, "--version"),
        kept: Some(Box::new(agent)),
        lab,
    })
}
