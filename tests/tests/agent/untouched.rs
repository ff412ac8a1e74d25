//! What is not a plain DNS query to an intercepted address goes its own way.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use dns_cache_tests::addresses::CLUSTER_IP;
use dns_cache_tests::raw::Datagram;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, Client, Family, Flavour, Lab, OrPanic, Pod, Query, Transport, client,
};

use crate::{WEB, assert_web, lab_with_agent};

/// Answers every datagram with itself as a response, until it has answered `count`.
fn echo(pod: &Pod, address: SocketAddr, count: usize) -> thread::JoinHandle<()> {
    let socket = pod
        .netns()
        .run(|| UdpSocket::bind(address))
        .or_panic("binding the echo server");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .or_panic("setting a time-out");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        for _ in 0..count {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                return;
            };
            buffer[2] |= 0x80;
            let _ = socket.send_to(&buffer[..length], client);
        }
    })
}

fn assert_untouched(agent: &Agent, work: impl FnOnce()) {
    let before = agent.counters();
    work();
    assert_eq!(
        before.resolved(&agent.counters()),
        0,
        "the resolver was sent something"
    );
}

#[test]
fn other_addresses_and_ports_pass() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        for family in Family::BOTH {
            assert_untouched(&agent, || {
                for port in [53, 5353, 8053] {
                    let server = lab.pod(1).addresses().socket(family, port);
                    let thread = echo(lab.pod(1), server, 1);
                    let client = lab.pod(0).client(family).server(server);
                    client
                        .ask(Transport::Unconnected, &Query::new(WEB, rtype::A))
                        .or_panic(format_args!("pod to pod, port {port}"));
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                // A replica's own address is not intercepted: it is CoreDNS that answers.
                let replica = lab.dns().endpoints()[0].dns(family);
                for transport in Transport::ALL {
                    assert_web(&lab.pod(0).client(family).server(replica), transport);
                }
                // Nothing listens there, and the resolver does not hear of it.
                let other = CLUSTER_IP.socket(family, 5353);
                let hasty = lab
                    .pod(0)
                    .client(family)
                    .server(other)
                    .timeout(Duration::from_millis(200));
                assert!(
                    hasty
                        .ask(Transport::Connected, &Query::new(WEB, rtype::A))
                        .is_err()
                );
            });
        }
    }
}

/// Sends a query by raw packets and waits for the answer at its port.
fn ask_raw(lab: &Lab, family: Family, send: impl FnOnce(&Datagram)) -> Result<(), client::Failure> {
    let pod = lab.pod(0);
    // Another one each time: a child that is just being started by another test may still hold the last one.
    static PORT: AtomicU16 = AtomicU16::new(46_464);
    let client: Client = pod
        .client(family)
        .source_port(PORT.fetch_add(1, Ordering::Relaxed));
    let socket = client.udp(false)?;
    let query = Query::new(WEB, rtype::A).edns(1232);
    let payload = query.to_bytes();
    send(&Datagram {
        source: pod.addresses().socket(family, socket.port()),
        destination: CLUSTER_IP.dns(family),
        payload,
    });
    client::check(&socket.receive()?, &query).map(drop)
}

#[test]
fn fragments_and_options_take_the_ordinary_way() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        for family in Family::BOTH {
            assert_untouched(&agent, || {
                ask_raw(&lab, family, |datagram| {
                    datagram.send_fragmented(lab.pod(0).netns(), 24)
                })
                .or_panic("a query in fragments");
                assert!(!lab.node().conntrack().pod_dns().is_empty());
                lab.node().conntrack().flush();
                ask_raw(&lab, family, |datagram| {
                    datagram.send_with_option(lab.pod(0).netns())
                })
                .or_panic("a query with IP options");
                assert!(!lab.node().conntrack().pod_dns().is_empty());
                lab.node().conntrack().flush();
            });
            // The same packet without fragments and options is ours.
            ask_raw(&lab, family, |datagram| datagram.send(lab.pod(0).netns()))
                .or_panic("a plain query");
            lab.node().conntrack().assert_no_pod_dns();
        }
    }
}

/// The packets of the test above are such that the ordinary way answers them.
#[test]
fn control_fragments_and_options_are_answered_without_the_agent() {
    let lab = Lab::builder().start();
    for family in Family::BOTH {
        ask_raw(&lab, family, |datagram| datagram.send(lab.pod(0).netns()))
            .or_panic("a plain query");
        ask_raw(&lab, family, |datagram| {
            datagram.send_fragmented(lab.pod(0).netns(), 24)
        })
        .or_panic("a query in fragments");
        ask_raw(&lab, family, |datagram| {
            datagram.send_with_option(lab.pod(0).netns())
        })
        .or_panic("a query with IP options");
    }
}
