//! One word of a few.

use super::super::{AfterHandOver, AttachMode, BlockedAnswer, InterceptEndpoints, LogFormat};
use super::quoted;

pub(in super::super) fn attach(text: &str) -> Result<AttachMode, String> {
    let modes = [
        ("auto", AttachMode::Auto),
        ("tcx", AttachMode::Tcx),
        ("clsact", AttachMode::Clsact),
    ];
    one_of(text, &modes)
}

pub(in super::super) fn after_hand_over(text: &str) -> Result<AfterHandOver, String> {
    let choices = [
        ("exit", AfterHandOver::Exit),
        ("standBy", AfterHandOver::StandBy),
    ];
    one_of(text, &choices)
}

pub(in super::super) fn log_format(text: &str) -> Result<LogFormat, String> {
    one_of(
        text,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    )
}

pub(in super::super) fn blocked(text: &str) -> Result<BlockedAnswer, String> {
    let answers = [
        ("nxdomain", BlockedAnswer::NxDomain),
        ("refused", BlockedAnswer::Refused),
    ];
    one_of(text, &answers)
}

pub(in super::super) fn intercept_endpoints(text: &str) -> Result<InterceptEndpoints, String> {
    let choices = [
        ("auto", InterceptEndpoints::Auto),
        ("true", InterceptEndpoints::Always),
        ("false", InterceptEndpoints::Never),
    ];
    one_of(text, &choices)
}

pub(in super::super) fn switch(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

/// How servers are asked; what TLS needs stands elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TransportName {
    Tcp,
    Udp,
    Tls,
}

pub(in super::super) fn transport(text: &str) -> Result<TransportName, String> {
    let names = [
        ("tcp", TransportName::Tcp),
        ("udp", TransportName::Udp),
        ("tls", TransportName::Tls),
    ];
    one_of(text, &names)
}

/// As [`transport`], for servers of which nothing but the address is known.
pub(in super::super) fn plain_transport(text: &str) -> Result<TransportName, String> {
    one_of(
        text,
        &[("tcp", TransportName::Tcp), ("udp", TransportName::Udp)],
    )
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            format!("{} found; allowed are {}", quoted(text), words.join(", "))
        })
}
