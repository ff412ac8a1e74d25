//! Which endpoints are asked, where, and which first.

use serde_json::from_value;

use super::super::endpoints::{Place, servers as chosen};
use super::super::slice::EndpointSlice;
use super::*;
use crate::config::Tls;

fn slices(values: &[Value]) -> Slices {
    let read = |value: &Value| from_value::<EndpointSlice>(value.clone()).unwrap();
    values
        .iter()
        .map(read)
        .map(|slice| (slice.metadata.name.clone(), slice))
        .collect()
}

/// Addresses and distances as node `n1` in zone `z1` sees them.
fn seen(values: &[Value]) -> Vec<(String, u32)> {
    let place = Place {
        node: Some("n1".to_owned()),
        zone: Some("z1".to_owned()),
    };
    let found = chosen(&slices(values), &place, &Transport::Tcp);
    let seen = |server: Upstream| (server.address.to_string(), server.distance);
    found.into_iter().map(seen).collect()
}

fn one(endpoint: Value) -> Vec<(String, u32)> {
    seen(&[slice("a", 1, &[endpoint])])
}

#[test]
fn those_that_take_queries_are_asked() {
    let with = |conditions: Value| {
        let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
        // One that is ready beside it: the last resort is not needed.
        let found = seen(&[slice("a", 1, &[endpoint, ready("10.0.0.9")])]);
        found.len() == 2
    };
    assert!(with(
        json!({"ready": true, "serving": true, "terminating": false})
    ));
    // Unknown is to be taken for ready.
    assert!(with(json!({})));
    assert!(with(
        json!({"ready": null, "serving": null, "terminating": null})
    ));
    assert!(with(json!({"ready": true})));
    assert!(!with(
        json!({"ready": false, "serving": false, "terminating": false})
    ));
    assert!(!with(
        json!({"ready": false, "serving": true, "terminating": true})
    ));
    assert!(!with(json!({"ready": true, "serving": false})));
    // publishNotReadyAddresses says ready of what ends, too.
    assert!(!with(
        json!({"ready": true, "serving": true, "terminating": true})
    ));
}

#[test]
fn if_all_end_those_that_still_answer_are_asked() {
    let ending = |address: &str, serving: bool| {
        json!({
            "addresses": [address],
            "conditions": {"ready": false, "serving": serving, "terminating": true},
        })
    };
    let found = seen(&[slice(
        "a",
        1,
        &[ending("10.0.0.1", true), ending("10.0.0.2", false)],
    )]);
    assert_eq!(found, [("10.0.0.1:53".to_owned(), 2)]);
    assert!(one(ending("10.0.0.1", false)).is_empty());
}

#[test]
fn if_none_is_ready_those_that_stay_are_asked() {
    let unready = |address: &str, terminating: bool| {
        json!({
            "addresses": [address],
            "conditions": {"ready": false, "serving": false, "terminating": terminating},
        })
    };
    let all = [unready("10.0.0.1", false), unready("10.0.0.2", true)];
    let found = seen(&[slice("a", 1, &all)]);
    assert_eq!(found, [("10.0.0.1:53".to_owned(), 2)]);
    let found = seen(&[slice("a", 1, &[&all[..], &[ready("10.0.0.3")]].concat())]);
    assert_eq!(found, [("10.0.0.3:53".to_owned(), 2)]);
}

#[test]
fn the_nearest_come_first() {
    let at = |node: Option<&str>, zone: Option<&str>, hints: Value| {
        let mut endpoint = ready("10.0.0.1");
        endpoint["nodeName"] = json!(node);
        endpoint["zone"] = json!(zone);
        endpoint["hints"] = hints;
        one(endpoint)[0].1
    };
    let zones = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"forZones": names})
    };
    let none = || json!(null);
    assert_eq!(at(Some("n1"), Some("z1"), none()), 0);
    assert_eq!(at(Some("n2"), Some("z1"), none()), 1);
    assert_eq!(at(Some("n2"), Some("z2"), none()), 2);
    assert_eq!(at(None, None, none()), 2);
    // The control plane's word.
    assert_eq!(at(Some("n2"), Some("z2"), zones(&["z1"])), 1);
    assert_eq!(at(Some("n2"), Some("z1"), zones(&["z2"])), 2);
    assert_eq!(at(Some("n1"), Some("z1"), zones(&["z2"])), 2);
    assert_eq!(at(Some("n1"), Some("z1"), zones(&["z2", "z1"])), 0);
    assert_eq!(at(Some("n2"), Some("z2"), zones(&[])), 2);
    assert_eq!(
        at(
            Some("n2"),
            Some("z2"),
            json!({"forNodes": [{"name": "n1"}]})
        ),
        0
    );
    assert_eq!(
        at(
            Some("n2"),
            Some("z1"),
            json!({"forNodes": [{"name": "n2"}]})
        ),
        1
    );
}

/// Nothing known of ourselves: nobody is near, not even an endpoint of which nothing is known either.
#[test]
fn without_a_place_all_are_alike() {
    let mut near = ready("10.0.0.1");
    near["nodeName"] = json!("n1");
    near["hints"] = json!({"forZones": [{"name": "z1"}]});
    let slices = slices(&[slice("a", 1, &[near, ready("10.0.0.2")])]);
    let found = chosen(&slices, &Place::default(), &Transport::Tcp);
    assert!(found.iter().all(|server| server.distance == 2), "{found:?}");
}

#[test]
fn all_families_and_slices_count_once() {
    let v6 = slice("b", 1, &[ready("fd00::2"), ready("fd00::3")]);
    let v4 = slice("a", 1, &[ready("10.0.0.2")]);
    let moving = slice("c", 1, &[ready("10.0.0.2")]);
    let name = json!({"metadata": {"name": "d"}, "addressType": "FQDN",
                      "endpoints": [ready("dns.example")], "ports": null});
    let empty = json!({"metadata": {"name": "e"}, "endpoints": null, "ports": null});
    let found: Vec<_> = seen(&[v6, v4, moving, name, empty])
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    assert_eq!(found, ["10.0.0.2:53", "[fd00::2]:53", "[fd00::3]:53"]);
}

#[test]
fn ports_go_by_transport_and_name() {
    let port = |transport: &Transport, ports: Value| {
        let mut value = slice("a", 1, &[ready("10.0.0.1")]);
        value["ports"] = ports;
        chosen(&slices(&[value]), &Place::default(), transport)[0]
            .address
            .port()
    };
    let openshift = || {
        json!([
            {"name": "metrics", "port": 9154, "protocol": "TCP"},
            {"name": "dns", "port": 5353, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
        ])
    };
    let tls = Transport::Tls(Tls {
        server_name: None,
        ca_file: "/ca".into(),
    });
    assert_eq!(port(&Transport::Tcp, openshift()), 5354);
    assert_eq!(port(&Transport::Udp, openshift()), 5353);
    assert_eq!(port(&tls, openshift()), 853);
    assert_eq!(port(&tls, json!([{"name": "dns-tls", "port": 8853}])), 8853);
    assert_eq!(port(&Transport::Tcp, json!([{"port": 54}])), 54);
    assert_eq!(port(&Transport::Tcp, json!([])), 53);
    assert_eq!(
        port(&Transport::Tcp, json!([{"name": "metrics", "port": 1}])),
        53
    );
}
