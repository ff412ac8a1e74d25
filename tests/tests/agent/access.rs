//! Who may ask, if not every pod may.

use dns_cache::metrics::names;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{AgentConfig, Client, Family, Flavour, Lab, OrPanic, Query, Transport};

use crate::metrics::Scrape;
use crate::{WEB, assert_web, lab_with_agent, warm};

const REFUSED: u16 = 5;

fn rcode(client: &Client, transport: Transport) -> u16 {
    let reply = client.ask(transport, &Query::new(WEB, rtype::A));
    reply.or_panic("a refusal is a reply").message.rcode()
}

/// The first pod may ask over IPv4, the second over IPv6. What one has brought into the kernel is not given to the other.
#[test]
fn networks_that_are_not_allowed_are_refused_and_counted() {
    let lab = Lab::builder().start();
    let (one, other) = (lab.pod(0).addresses(), lab.pod(1).addresses());
    let agent = lab.agent(&AgentConfig {
        extra: format!("access: {{allow: [{}, \"{}/128\"]}}\n", one.v4, other.v6),
        ..AgentConfig::default()
    });
    let before = agent.counters();
    let mut denied = 0;
    for _ in 0..5 {
        for (pod, allowed) in [(0, Family::V4), (1, Family::V6)] {
            for family in Family::BOTH {
                let client = lab.pod(pod).client(family);
                for transport in Transport::ALL {
                    if family == allowed {
                        assert_web(&client, transport);
                    } else {
                        assert_eq!(rcode(&client, transport), REFUSED, "pod {pod}, {family:?}");
                        denied += 1;
                    }
                }
            }
        }
    }
    let after = agent.counters();
    let counted = |name: &str| after.resolver(name) - before.resolver(name);
    assert_eq!(counted("access_denied"), denied);
    let scraped = Scrape::of(&lab).sum(&names::ACCESS_DENIED, &[]);
    assert_eq!(scraped, denied as f64);
    // Those who may are answered in the kernel all the same.
    assert!(before.answered(&after) > 0, "{after:?}");
    let udp = denied * 2 / 3;
    let bypassed = after.datapath("cache_bypasses_access");
    assert!(
        bypassed >= udp,
        "{bypassed} of {udp} refused over UDP: {after:?}"
    );
    lab.node().conntrack().assert_no_pod_dns();
}

/// What is cached is the other pod's, and is not given for as long as that one alone may ask.
#[test]
fn a_reload_changes_who_may_ask() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let only = |pod: usize| AgentConfig {
        extra: format!("access: {{allow: [{}]}}\n", lab.pod(pod).addresses().v4),
        ..AgentConfig::default()
    };
    let clients = [0, 1].map(|pod| lab.pod(pod).client(Family::V4));
    for (config, may) in [
        (AgentConfig::default(), [true, true]),
        (only(0), [true, false]),
        (only(1), [false, true]),
        (AgentConfig::default(), [true, true]),
    ] {
        agent.reload(&config);
        let before = agent.counters();
        for (client, may) in clients.iter().zip(may) {
            for _ in 0..5 {
                for transport in Transport::ALL {
                    let rcode = rcode(client, transport);
                    assert_eq!(rcode, if may { 0 } else { REFUSED }, "{may} {transport:?}");
                }
            }
        }
        let after = agent.counters();
        assert!(before.answered(&after) > 0, "{after:?}");
        let denied = after.resolver("access_denied") - before.resolver("access_denied");
        assert_eq!(denied > 0, may.contains(&false));
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// Another pod's address does not open what one's own does not.
#[test]
fn a_forged_source_gets_nothing_of_the_kernels() {
    let lab = Lab::builder().start();
    let one = lab.pod(0).addresses();
    let agent = lab.agent(&AgentConfig {
        extra: format!("access: {{allow: [{}]}}\n", one.v4),
        ..AgentConfig::default()
    });
    warm(&agent, &lab.pod(0).client(Family::V4), WEB);
    let before = agent.counters();
    let other = lab.pod(1);
    other
        .netns()
        .ip(&format!("addr add {}/32 dev eth0\n", one.v4));
    let forger = other.client(Family::V4).source_address(one.v4.into());
    let forger = forger.timeout(std::time::Duration::from_millis(300));
    assert!(
        forger
            .ask(Transport::Unconnected, &Query::new(WEB, rtype::A))
            .is_err()
    );
    let after = agent.counters();
    assert_eq!(before.answered(&after), 0, "{after:?}");
    assert_eq!(
        after.datapath("forged_source") - before.datapath("forged_source"),
        1
    );
}
