//! `kubernetes`: whose endpoints are the cluster's servers, and how the API server is asked.

use super::super::errors::Report;
use super::super::overrides::Flag;
use super::super::section::Section;
use super::super::setting::Setting;
use super::super::value::{choice, kubernetes as rule, path};
use super::super::{InterceptEndpoints, Kubernetes, defaults};

pub(super) const KEYS: [&str; 9] = [
    "service",
    "namespace",
    "nodeName",
    "interceptService",
    "interceptEndpoints",
    "detachWhenRefused",
    "apiServer",
    "caFile",
    "tokenFile",
];

/// The section, if it is there; an empty one means the defaults.
pub(super) fn read(
    top: &Section<'_>,
    node_name: Flag<'_>,
    report: &mut Report,
) -> Option<Kubernetes> {
    if !top.has("kubernetes") {
        return None;
    }
    let section = top.section("kubernetes", &KEYS, report);
    if !cfg!(feature = "kubernetes")
        && let Some(at) = section.at()
    {
        let message = "this dns-cache was built without the feature kubernetes; remove the section, or use a build that has it";
        report.add_at(at, "kubernetes", message);
    }
    let service = Setting::scalar(&section, "service", None, rule::service, report);
    let namespace = Setting::scalar(&section, "namespace", None, rule::label, report);
    let node_name = Setting::scalar(&section, "nodeName", Some(node_name), rule::node, report);
    let intercept_service =
        Setting::scalar(&section, "interceptService", None, choice::switch, report);
    let intercept_endpoints = Setting::scalar(
        &section,
        "interceptEndpoints",
        None,
        choice::intercept_endpoints,
        report,
    );
    let detach_when_refused =
        Setting::scalar(&section, "detachWhenRefused", None, choice::switch, report);
    let api_server = Setting::scalar(&section, "apiServer", None, rule::api_server, report);
    let mut file = |key, default: &str| {
        Setting::scalar(&section, key, None, path::file, report)
            .valid()
            .unwrap_or_else(|| default.into())
    };
    Some(Kubernetes {
        service: service
            .valid()
            .unwrap_or_else(|| defaults::SERVICE.to_owned()),
        namespace: namespace
            .valid()
            .unwrap_or_else(|| defaults::SERVICE_NAMESPACE.to_owned()),
        node_name: node_name.valid(),
        intercept_service: intercept_service.valid().unwrap_or(true),
        intercept_endpoints: intercept_endpoints
            .valid()
            .unwrap_or(InterceptEndpoints::Auto),
        detach_when_refused: detach_when_refused.valid().unwrap_or(false),
        api_server: api_server.valid(),
        ca_file: file("caFile", defaults::API_CA_FILE),
        token_file: file("tokenFile", defaults::API_TOKEN_FILE),
    })
}
