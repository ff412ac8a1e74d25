//! `host`: the node's own processes.

use std::net::IpAddr;

use super::super::errors::Report;
use super::super::model::is_link_local;
use super::super::section::Section;
use super::super::setting::Setting;
use super::super::value::{choice, path};
use super::super::{Fallback, HostProcesses, InterceptEndpoints, Kubernetes, defaults};

pub(super) const KEYS: [&str; 2] = ["enabled", "cgroup"];

pub(super) fn read(
    top: &Section<'_>,
    listen: &[IpAddr],
    kubernetes: Option<&Kubernetes>,
    fallbacks: &[Fallback],
    report: &mut Report,
) -> HostProcesses {
    let section = top.section("host", &KEYS, report);
    let enabled = Setting::scalar(&section, "enabled", None, choice::switch, report);
    let is_own = |ip: &IpAddr| is_link_local(*ip) || fallbacks.iter().any(|own| own.address == *ip);
    if let Setting::Valid(enabled) = &enabled
        && enabled.value
    {
        if !listen.iter().any(is_own) {
            let message = "needs an address that the node has a route to; add a link-local one such as 169.254.20.10 to listen";
            enabled.blame(message, report);
        }
        if kubernetes.is_some_and(|k| k.intercept_endpoints == InterceptEndpoints::Always) {
            let message = "with kubernetes.interceptEndpoints the agent would ask itself; leave one of the two out";
            enabled.blame(message, report);
        }
    }
    let cgroup = Setting::scalar(&section, "cgroup", None, path::directory, report);
    HostProcesses {
        enabled: enabled.valid().unwrap_or(false),
        cgroup: cgroup.valid().unwrap_or_else(|| defaults::CGROUP.into()),
    }
}
