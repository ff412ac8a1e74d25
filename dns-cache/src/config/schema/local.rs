//! `hosts` and `blocked`: names that the configuration answers by itself; `access`: who may ask.

use super::super::errors::Report;
use super::super::section::Section;
use super::super::setting::Setting;
use super::super::value::{address, choice, name, network, quoted};
use super::super::{Blocked, BlockedAnswer, Host, Network};
use super::missing;

pub(super) const HOST_KEYS: [&str; 2] = ["name", "addresses"];
pub(super) const BLOCKED_KEYS: [&str; 2] = ["zone", "answer"];
pub(super) const ACCESS_KEYS: [&str; 1] = ["allow"];

pub(super) fn hosts(top: &Section<'_>, report: &mut Report) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    for section in top.sections("hosts", &HOST_KEYS, report) {
        let name = Setting::scalar(&section, "name", None, name::domain, report);
        if name.is_missing() {
            missing(
                &section,
                "name",
                None,
                "give the host's name, as in db.corp.example",
                report,
            );
        }
        if let Setting::Valid(name) = &name
            && hosts.iter().any(|other| other.name == name.value)
        {
            let found = quoted(&name.value);
            name.blame(
                format!("{found} is in the list already; give all its addresses there"),
                report,
            );
        }
        let addresses = Setting::list(&section, "addresses", None, address::ip, report);
        if addresses.is_missing() {
            missing(
                &section,
                "addresses",
                None,
                "give the host's addresses, as in [192.0.2.1]",
                report,
            );
        }
        hosts.push(Host {
            name: name.valid().unwrap_or_default(),
            addresses: addresses.values().unwrap_or_default(),
        });
    }
    hosts
}

pub(super) fn access(top: &Section<'_>, report: &mut Report) -> Vec<Network> {
    let section = top.section("access", &ACCESS_KEYS, report);
    let allowed = Setting::list(&section, "allow", None, network::network, report);
    allowed.values().unwrap_or_default()
}

pub(super) fn blocked(top: &Section<'_>, report: &mut Report) -> Vec<Blocked> {
    let mut zones: Vec<Blocked> = Vec::new();
    for section in top.sections("blocked", &BLOCKED_KEYS, report) {
        let zone = Setting::scalar(&section, "zone", None, name::domain, report);
        if zone.is_missing() {
            missing(
                &section,
                "zone",
                None,
                "give the zone's name, as in ads.example",
                report,
            );
        }
        if let Setting::Valid(zone) = &zone
            && zones.iter().any(|other| other.zone == zone.value)
        {
            let found = quoted(&zone.value);
            zone.blame(format!("{found} is in the list already; remove it"), report);
        }
        let answer = Setting::scalar(&section, "answer", None, choice::blocked, report);
        zones.push(Blocked {
            zone: zone.valid().unwrap_or_default(),
            answer: answer.valid().unwrap_or(BlockedAnswer::NxDomain),
        });
    }
    zones
}
