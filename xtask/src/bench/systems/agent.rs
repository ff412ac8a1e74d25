//! dns-cache itself.

use anyhow::Result;
use dns_cache_tests::AgentConfig;

use super::{Setting, Started, System, cluster_ip, lab, version};

pub(super) const USERSPACE: System = System {
    key: "dns-cache-userspace",
    title: "dns-cache, userspace path",
    about: "the agent as in the tests: tc program on the pod's veth, hand-over to the resolver's namespace, its own cache; CoreDNS is asked over TCP",
    start,
};

fn start(setting: &Setting) -> Result<Started> {
    let lab = lab();
    let agent = lab.agent(&AgentConfig {
        binary: Some(setting.agent.clone()),
        // The tests' level has log records in the programs.
        log_level: "warn".to_owned(),
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
