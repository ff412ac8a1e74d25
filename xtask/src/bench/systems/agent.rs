//! dns-cache itself.

use anyhow::Result;
use dns_cache_tests::AgentConfig;

use super::{Kept, Running, Setting, Started, System, cluster_ip, lab, version};

pub(super) const KERNEL: System = System {
    key: "dns-cache-kernel",
    title: "dns-cache, kernel hit",
    short: "kernel",
    about: "the agent as it is installed: the tc program on the pod's veth answers what is cached, the rest goes to the resolver as below",
    resolves: true,
    programs: true,
    only: None,
    start: |setting| start(setting, AgentConfig::default()),
};

pub(super) const USERSPACE: System = System {
    key: "dns-cache-userspace",
    title: "dns-cache, userspace path",
    short: "userspace",
    about: "the same with cache.kernel: false: hand-over to the resolver's namespace, its own cache; CoreDNS is asked over TCP",
    resolves: true,
    programs: true,
    only: None,
    start: |setting| {
        let extra = "cache:\n  kernel: false\n".to_owned();
        start(
            setting,
            AgentConfig {
                extra,
                ..AgentConfig::default()
            },
        )
    },
};

pub(in crate::bench) const UDP: System = System {
    key: "dns-cache-udp",
    title: "dns-cache, upstream over UDP",
    short: "over UDP",
    about: "the agent with cluster.transport: udp",
    resolves: true,
    programs: true,
    only: Some("misses"),
    start: |setting| {
        let cluster = "  transport: udp\n".to_owned();
        start(
            setting,
            AgentConfig {
                cluster,
                ..AgentConfig::default()
            },
        )
    },
};

/// Only for what search lists cost.
pub(in crate::bench) const WITHOUT_CUTS: System = System {
    key: "dns-cache-without-cuts",
    title: "dns-cache without cuts",
    short: "no cuts",
    about: "the agent with cluster.nxdomainCut: false",
    resolves: true,
    programs: true,
    only: None,
    start: |setting| {
        let cluster = "  nxdomainCut: false\n".to_owned();
        start(
            setting,
            AgentConfig {
                cluster,
                ..AgentConfig::default()
            },
        )
    },
};

/// One with room for so many entries that do not expire while it is measured.
pub(in crate::bench) fn with_room(setting: &Setting, entries: u32) -> Result<Running> {
    // Twice the room: what was asked for once must not make way before the cache is full.
    let (most, bytes) = (
        u64::from(entries) * 2,
        u64::from(entries) * 4096 + (64 << 20),
    );
    let config = AgentConfig {
        cluster: "  ttl: {positive: 3600, minimum: 3600}\n".to_owned(),
        extra: format!("cache:\n  maxEntries: {most}\n  maxBytes: {bytes}\n"),
        ..AgentConfig::default()
    };
    Running::new(&KERNEL, start(setting, config)?)
}

fn start(setting: &Setting, config: AgentConfig) -> Result<Started> {
    let lab = lab();
    let agent = lab.agent(&AgentConfig {
        binary: Some(setting.agent.clone()),
        // The tests' level has log records in the programs.
        log_level: "warn".to_owned(),
        wedged_after: None,
        ..config
    });
    let pid = agent.process().pid();
    Ok(Started {
        server: cluster_ip(),
        processes: vec![pid],
        programs: Some(pid),
        version: version(&setting.agent, "--version"),
        kept: Kept::Agent(agent),
        lab,
    })
}
