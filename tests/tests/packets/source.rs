//! A source address is learnt only behind the interface that leads to it; replies cannot be stolen.

use super::harness::{
    Harness,
    Verdict::{Redirect, Shot, Unspec},
    ip,
};
use super::packet::{answer, tcp, udp};

#[test]
fn a_routed_pod_is_learnt_and_another_ones_address_is_refused() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    for v4 in [true, false] {
        let address = if v4 { b.v4 } else { b.v6 };
        // Before b has said anything, and after.
        for said in [false, true] {
            if said {
                assert_eq!(harness.sent_by_pod(b, &udp(b, v4)).verdict, Redirect);
            }
            let forged = udp(a, v4).with(|p| p.source = ip(address));
            let outcome = harness.sent_by_pod(a, &forged);
            assert_eq!(
                outcome.verdict, Shot,
                "b's address from a's interface, b known: {said}"
            );
            assert_eq!(outcome.counted.get("forged_source"), Some(&1));
            let with_mac = forged.with(|p| p.macs[1] = b.mac);
            assert_eq!(
                harness.sent_by_pod(a, &with_mac).verdict,
                Shot,
                "with b's MAC as well"
            );
            assert_eq!(
                harness.client(address).map(|client| client.ifindex),
                said.then_some(b.ifindex)
            );
        }
        let learnt = harness.client(address).unwrap();
        assert_eq!((learnt.pod, learnt.gateway), (b.mac, b.gateway));
    }
}

#[test]
fn a_forged_syn_is_refused() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    let forged = tcp(a, true).with(|p| p.source = ip(b.v4));
    assert_eq!(harness.sent_by_pod(a, &forged).verdict, Shot);
}

/// Neither proven nor refuted: the answer goes where the question came from, and nothing is learnt of
/// the address.
#[test]
fn an_address_that_leads_elsewhere_is_served_a_flow_at_a_time() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    for source in ["192.0.2.1", "198.51.100.9"] {
        let query = udp(a, true).with(|p| p.source = ip(source));
        let outcome = harness.sent_by_pod(a, &query);
        assert_eq!(outcome.verdict, Redirect, "{source}");
        assert_eq!(outcome.counted.get("unverified"), Some(&1), "{source}");
        assert_eq!(harness.client(source), None);
        let reply = harness.sent_by_resolver(&answer(&query));
        assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &a.mac[..]));
        let other_port = answer(&query).with(|p| p.ports[1] += 1);
        assert_eq!(
            harness.sent_by_resolver(&other_port).verdict,
            Shot,
            "another flow"
        );
        let other_protocol = answer(&tcp(a, true).with(|p| p.source = ip(source)));
        assert_eq!(
            harness.sent_by_resolver(&other_protocol).verdict,
            Shot,
            "another protocol"
        );
    }
}

#[test]
fn a_link_local_source_takes_the_ordinary_path() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    for source in ["fe80::1", "febf::1"] {
        let query = udp(a, false).with(|p| p.source = ip(source));
        let outcome = harness.sent_by_pod(a, &query);
        assert_eq!(outcome.verdict, Unspec, "{source}");
        assert_eq!(outcome.counted.get("ordinary_source"), Some(&1));
    }
}

#[test]
fn an_address_that_moves_is_learnt_anew() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    assert_eq!(harness.sent_by_pod(a, &udp(a, true)).verdict, Redirect);
    harness.ip(&format!("route replace {}/32 dev vb", a.v4));
    let moved = udp(b, true).with(|p| p.source = ip(a.v4));
    assert_eq!(harness.sent_by_pod(b, &moved).verdict, Redirect);
    assert_eq!(harness.client(a.v4).unwrap().ifindex, b.ifindex);
    assert_eq!(
        harness.sent_by_pod(a, &udp(a, true)).verdict,
        Shot,
        "the old owner"
    );
}

#[test]
fn a_bridged_pod_is_learnt_and_another_ones_address_is_refused() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    harness.set_neighbour(c);
    harness.set_neighbour(d);
    for v4 in [true, false] {
        let address = if v4 { d.v4 } else { d.v6 };
        assert_eq!(harness.sent_by_pod(d, &udp(d, v4)).verdict, Redirect);
        assert_eq!(harness.bridge_port(d.mac), Some(d.ifindex));
        let forged = udp(c, v4).with(|p| p.source = ip(address));
        assert_eq!(harness.sent_by_pod(c, &forged).verdict, Shot, "d's address");
        let with_mac = forged.with(|p| p.macs[1] = d.mac);
        assert_eq!(
            harness.sent_by_pod(c, &with_mac).verdict,
            Shot,
            "d's address and MAC"
        );
        assert_eq!(harness.client(address).unwrap().ifindex, d.ifindex);
    }
}

/// A pod behind a bridge that the node has no neighbour entry of. If the address is forged, its owner
/// gets nothing of it, before or after it speaks for the first time.
#[test]
fn a_bridged_address_without_a_neighbour_entry_is_served_a_flow_at_a_time() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    let forged = udp(c, true).with(|p| p.source = ip(d.v4));
    let outcome = harness.sent_by_pod(c, &forged);
    assert_eq!(outcome.verdict, Redirect);
    assert_eq!(outcome.counted.get("unverified"), Some(&1));
    let reply = harness.sent_by_resolver(&answer(&forged));
    assert_eq!(
        (reply.verdict, &reply.packet[..6]),
        (Redirect, &c.mac[..]),
        "to the one that asked"
    );

    harness.set_neighbour(d);
    assert_eq!(harness.sent_by_pod(d, &udp(d, true)).verdict, Redirect);
    assert_eq!(harness.client(d.v4).unwrap().ifindex, d.ifindex);
    let reply = harness.sent_by_resolver(&answer(&udp(d, true)));
    assert_eq!(
        (reply.verdict, &reply.packet[..6]),
        (Redirect, &d.mac[..]),
        "to the address's owner"
    );
    assert_eq!(harness.sent_by_pod(c, &forged).verdict, Shot);
}

#[test]
fn a_bridged_pod_cannot_take_a_routed_ones_address() {
    let mut harness = Harness::new();
    let (a, c) = (harness.pod('a'), harness.pod('c'));
    let forged = udp(c, true).with(|p| p.source = ip(a.v4));
    assert_eq!(harness.sent_by_pod(c, &forged).verdict, Shot);
    let forged = udp(a, true).with(|p| p.source = ip(c.v4));
    let outcome = harness.sent_by_pod(a, &forged);
    assert_eq!(outcome.verdict, Redirect, "nobody knows whose it is");
    assert_eq!(outcome.counted.get("unverified"), Some(&1));
    harness.set_neighbour(c);
    assert_eq!(harness.sent_by_pod(c, &udp(c, true)).verdict, Redirect);
    assert_eq!(harness.client(c.v4).unwrap().ifindex, c.ifindex);
    assert_eq!(harness.sent_by_pod(a, &forged).verdict, Shot);
    let with_mac = forged.with(|p| p.macs[1] = c.mac);
    assert_eq!(harness.sent_by_pod(a, &with_mac).verdict, Shot);
}

/// The agent has heard of the interface, and not yet that it is a bridge's port.
#[test]
fn a_port_that_is_not_known_to_be_one_is_served() {
    for is_neighbour in [false, true] {
        let mut harness = Harness::new();
        let (c, d) = (harness.pod('c'), harness.pod('d'));
        harness.forget_bridge(c);
        if is_neighbour {
            harness.set_neighbour(c);
        }
        harness.set_neighbour(d);
        for v4 in [true, false] {
            let query = udp(c, v4);
            assert_eq!(harness.sent_by_pod(c, &query).verdict, Redirect);
            let reply = harness.sent_by_resolver(&answer(&query));
            assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &c.mac[..]));
            assert_eq!(harness.sent_by_pod(d, &udp(d, v4)).verdict, Redirect);
            let forged = query.with(|p| p.source = ip(if v4 { d.v4 } else { d.v6 }));
            assert_eq!(harness.sent_by_pod(c, &forged).verdict, Shot);
        }
    }
}

#[test]
fn an_interface_that_the_agent_has_not_registered_is_not_trusted() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    harness.forget_interface(a.ifindex);
    assert_eq!(harness.sent_by_pod(a, &udp(a, true)).verdict, Unspec);
}

/// Two interfaces claim one flow, and nothing says who is right: the first one keeps it.
#[test]
fn an_unproven_flow_cannot_be_taken_over() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    let query = udp(d, true);
    assert_eq!(harness.sent_by_pod(d, &query).verdict, Redirect);
    let forged = udp(c, true).with(|p| p.source = ip(d.v4));
    let outcome = harness.sent_by_pod(c, &forged);
    assert_eq!(outcome.verdict, Unspec);
    assert_eq!(outcome.counted.get("ordinary_source"), Some(&1));
    let reply = harness.sent_by_resolver(&answer(&query));
    assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &d.mac[..]));
    assert_eq!(
        harness.sent_by_pod(d, &query).verdict,
        Redirect,
        "its holder goes on"
    );

    // Once the holder's interface is gone, the flow is free.
    harness.forget_interface(d.ifindex);
    assert_eq!(harness.sent_by_pod(c, &forged).verdict, Redirect);
}

/// The neighbour entry is of a pod that is gone, and whose address another one has now that has not told the node.
#[test]
fn the_address_of_a_bridged_pod_that_is_gone_is_anothers() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    harness.set_neighbour(d);
    for v4 in [true, false] {
        assert_eq!(harness.sent_by_pod(d, &udp(d, v4)).verdict, Redirect);
    }
    let moved = [true, false].map(|v4| {
        let address = if v4 { d.v4 } else { d.v6 };
        udp(c, v4).with(|p| p.source = ip(address))
    });
    for query in &moved {
        assert_eq!(harness.sent_by_pod(c, query).verdict, Shot, "it is there");
    }
    harness.forget_interface(d.ifindex);
    for query in &moved {
        assert_eq!(harness.sent_by_pod(c, query).verdict, Redirect);
        let reply = harness.sent_by_resolver(&answer(query));
        assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &c.mac[..]));
    }
}

/// The same before the agent has heard of the first one's end.
#[test]
fn the_address_of_a_bridged_pod_is_anothers_as_soon_as_that_is_gone() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    harness.set_neighbour(d);
    for v4 in [true, false] {
        assert_eq!(harness.sent_by_pod(d, &udp(d, v4)).verdict, Redirect);
    }
    harness.ip("link del vd");
    for v4 in [true, false] {
        let address = if v4 { d.v4 } else { d.v6 };
        let query = udp(c, v4).with(|p| p.source = ip(address));
        assert_eq!(harness.sent_by_pod(c, &query).verdict, Redirect);
        let reply = harness.sent_by_resolver(&answer(&query));
        assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &c.mac[..]));
    }
}

/// A pod whose MAC address changes is answered at the new one, also when its neighbour entry is gone.
#[test]
fn a_new_mac_address_behind_the_same_interface_is_learnt() {
    let mut harness = Harness::new();
    let c = harness.pod('c');
    harness.set_neighbour(c);
    assert_eq!(harness.sent_by_pod(c, &udp(c, true)).verdict, Redirect);
    harness.ip(&format!("neigh del {} dev br0", c.v4));
    let mac = [2, 0, 0, 0, 7, 7];
    let query = udp(c, true).with(|p| p.macs[1] = mac);
    assert_eq!(harness.sent_by_pod(c, &query).verdict, Redirect);
    let reply = harness.sent_by_resolver(&answer(&query));
    assert_eq!((reply.verdict, &reply.packet[..6]), (Redirect, &mac[..]));
}
