//! A line that came over the control socket.
#![expect(clippy::expect_used, reason = "a target panics if something is wrong")]

use super::{Command, Response};
use crate::presentation;

/// It is a request, or refused with a reason; a request is the same when it is sent on. Its names are read, or refused.
pub fn control(line: &[u8]) {
    let _ = Response::from_line(line);
    let command = match Command::from_line(line) {
        Ok(command) => command,
        Err(reason) => return assert!(!reason.is_empty(), "refused without a reason"),
    };
    let text = command.to_line().expect("a request can be written");
    assert_eq!(Command::from_line(text.as_bytes()), Ok(command.clone()));
    let names = match command {
        Command::CacheList { names, .. } | Command::CacheFlush { names } => {
            [names.zone, names.name]
        }
        Command::Lookup { name, rtype } => {
            let _ = presentation::rtype(&rtype);
            [Some(name), None]
        }
        _ => return,
    };
    for text in names.iter().flatten() {
        if let Ok(name) = presentation::name(text) {
            assert!(name.len() <= dns_cache_common::name::MAX_LEN, "{text:?}");
            let again = presentation::name(&presentation::name_text(&name));
            assert_eq!(again.as_deref(), Ok(&*name), "{text:?}");
        }
    }
}
