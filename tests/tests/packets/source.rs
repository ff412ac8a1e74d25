//! A source address is learnt only behind the interface that leads to it; replies cannot be stolen.

use super::harness::{Harness, Verdict::{Ok, Redirect, Shot}, ip};
use super::packet::{tcp, udp};

#[test]
fn a_routed_pod_is_learnt_and_another_ones_address_is_refused() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    for v4 in [true, false] {
        let address = if v4 { b.v4 } else { b.v6 };
        // Before b has said anything, and after.
        for said in [false, true] {
            if said {
                assert_eq!(harness.from_pod(b, &udp(b, v4)).verdict, Redirect);
            }
            let forged = udp(a, v4).with(|p| p.source = ip(address));
            let outcome = harness.from_pod(a, &forged);
            assert_eq!(outcome.verdict, Shot, "b's address from a's interface, b known: {said}");
            assert_eq!(outcome.counted.get("forged_source"), Some(&1));
            let with_mac = forged.with(|p| p.macs[1] = b.mac);
            assert_eq!(harness.from_pod(a, &with_mac).verdict, Shot, "with b's MAC as well");
            assert_eq!(harness.client(address).map(|client| client.ifindex), said.then_some(b.ifindex));
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
    assert_eq!(harness.from_pod(a, &forged).verdict, Shot);
}

#[test]
fn an_address_that_leads_elsewhere_takes_the_ordinary_path() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    for source in ["192.0.2.1", "127.0.0.1", "0.0.0.0", "224.0.0.1"] {
        let packet = udp(a, true).with(|p| p.source = ip(source));
        let outcome = harness.from_pod(a, &packet);
        assert_eq!(outcome.verdict, Ok, "{source}");
        assert_eq!(outcome.counted.get("ordinary_unverified"), Some(&1), "{source}");
        assert_eq!(harness.client(source), None);
    }
}

#[test]
fn an_address_that_moves_is_learnt_anew() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    assert_eq!(harness.from_pod(a, &udp(a, true)).verdict, Redirect);
    harness.ip(&format!("route replace {}/32 dev vb", a.v4));
    let moved = udp(b, true).with(|p| p.source = ip(a.v4));
    assert_eq!(harness.from_pod(b, &moved).verdict, Redirect);
    assert_eq!(harness.client(a.v4).unwrap().ifindex, b.ifindex);
    assert_eq!(harness.from_pod(a, &udp(a, true)).verdict, Shot, "the old owner");
}

#[test]
fn a_bridged_pod_is_learnt_and_another_ones_address_is_refused() {
    let mut harness = Harness::new();
    let (c, d) = (harness.pod('c'), harness.pod('d'));
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    for pod in [c, d] {
        harness.ip(&format!(
            "neigh replace {} lladdr {m} dev br0 nud reachable\nneigh replace {} lladdr {m} dev br0 nud reachable",
            pod.v4,
            pod.v6,
            m = mac(pod.mac),
        ));
    }
    for v4 in [true, false] {
        let address = if v4 { d.v4 } else { d.v6 };
        assert_eq!(harness.from_pod(d, &udp(d, v4)).verdict, Redirect);
        assert_eq!(harness.bridge_port(d.mac), Some(d.ifindex));
        let forged = udp(c, v4).with(|p| p.source = ip(address));
        assert_eq!(harness.from_pod(c, &forged).verdict, Shot, "d's address");
        let with_mac = forged.with(|p| p.macs[1] = d.mac);
        assert_eq!(harness.from_pod(c, &with_mac).verdict, Shot, "d's address and MAC");
        assert_eq!(harness.client(address).unwrap().ifindex, d.ifindex);
    }
}

#[test]
fn a_bridged_address_without_a_neighbour_entry_takes_the_ordinary_path() {
    let mut harness = Harness::new();
    let c = harness.pod('c');
    let outcome = harness.from_pod(c, &udp(c, true));
    assert_eq!(outcome.verdict, Ok);
    assert_eq!(outcome.counted.get("ordinary_unverified"), Some(&1));
    assert_eq!(harness.client(c.v4), None);
}

#[test]
fn a_bridged_pod_cannot_take_a_routed_ones_address() {
    let mut harness = Harness::new();
    let (a, c) = (harness.pod('a'), harness.pod('c'));
    let forged = udp(c, true).with(|p| p.source = ip(a.v4));
    assert_eq!(harness.from_pod(c, &forged).verdict, Shot);
    let forged = udp(a, true).with(|p| p.source = ip(c.v4));
    assert_eq!(harness.from_pod(a, &forged).verdict, Shot);
}

#[test]
fn an_interface_that_the_agent_has_not_registered_is_not_trusted() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    harness.forget_interface(a.ifindex);
    assert_eq!(harness.from_pod(a, &udp(a, true)).verdict, Ok);
}
