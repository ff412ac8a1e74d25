//! `fallback`: who is asked in the place of an address that has no ordinary path.

use std::net::IpAddr;

use super::super::Fallback;
use super::super::errors::Report;
use super::super::model::is_link_local;
use super::super::section::Section;
use super::super::setting::Setting;
use super::super::value::address;
use super::missing;

pub(super) const KEYS: [&str; 2] = ["address", "to"];

pub(super) fn read(top: &Section<'_>, listen: &[IpAddr], report: &mut Report) -> Vec<Fallback> {
    let sections = top.sections("fallback", &KEYS, report);
    let mut fallbacks: Vec<Fallback> = Vec::new();
    for section in &sections {
        let address = Setting::scalar(section, "address", None, address::listen, report);
        if address.is_missing() {
            let advice = "give the address in listen that has no ordinary path";
            missing(section, "address", None, advice, report);
        }
        if let Setting::Valid(address) = &address {
            let ip = address.value;
            if !listen.is_empty() && !listen.contains(&ip) {
                let message =
                    format!("{ip} is not in listen, so nothing is answered there; add it");
                address.blame(message, report);
            }
            if fallbacks.iter().any(|other| other.address == ip) {
                let message = format!("{ip} is in the list already; give it one fallback");
                address.blame(message, report);
            }
        }
        let to = Setting::scalar(section, "to", None, address::listen, report);
        if to.is_missing() {
            let advice = "give the address to ask in its place, as the DNS service's ClusterIP";
            missing(section, "to", None, advice, report);
        }
        let (Setting::Valid(address), Setting::Valid(to)) = (address, to) else {
            continue;
        };
        let fallback = Fallback {
            address: address.value,
            to: to.value,
        };
        if let Some(what) = mistake(fallback) {
            let message = format!("{} {what}; give the DNS service's ClusterIP", to.value);
            to.blame(message, report);
        }
        fallbacks.push(fallback);
    }
    fallbacks
}

fn mistake(Fallback { address, to }: Fallback) -> Option<&'static str> {
    if to == address {
        Some("is the address itself")
    } else if to.is_ipv4() != address.is_ipv4() {
        Some("is of the other address family")
    } else if is_link_local(to) {
        Some("is a link-local address, which has no ordinary path either")
    } else {
        None
    }
}
