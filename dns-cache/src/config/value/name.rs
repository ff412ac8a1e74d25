//! Domain names.

use std::net::IpAddr;

use super::quoted;

/// Octets of a label (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
/// Characters of a name without its trailing dot: 255 octets on the wire.
const LONGEST_NAME: usize = 253;

/// A name in lower case and without its trailing dot; not the root.
pub(in super::super) fn domain(text: &str) -> Result<String, String> {
    if text == "." {
        return Err("\".\" is the root; give a domain such as cluster.local".to_owned());
    }
    checked(text)
}

/// What a server's certificate is for: a name, or an address.
pub(in super::super) fn server(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => domain(text),
    }
}

/// As [`domain`], and `.` for the root.
pub(in super::super) fn zone(text: &str) -> Result<String, String> {
    if text == "." {
        Ok(text.to_owned())
    } else {
        checked(text)
    }
}

fn checked(text: &str) -> Result<String, String> {
    let found = quoted(text);
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(format!(
            "{found} is empty; give a domain such as corp.example"
        ));
    }
    if name.starts_with("*.") {
        return Err(format!(
            "{found} has a wildcard; a zone covers every name below it, leave out the *."
        ));
    }
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "{found} has {} characters; a name has at most {LONGEST_NAME}",
            name.len()
        ));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(format!(
                "{found} has an empty label; put one dot between labels and none in front"
            ));
        }
        if label.len() > LONGEST_LABEL {
            return Err(format!(
                "{found} has a label of {} characters; a label has at most {LONGEST_LABEL}",
                label.len()
            ));
        }
        if let Some(c) = label
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            let hint = if c.is_ascii() {
                ""
            } else {
                "; write it in its xn-- form"
            };
            return Err(format!(
                "{found} contains {c:?}; allowed are letters, digits, - and _{hint}"
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!(
                "{found} has a label that starts or ends with -; remove it"
            ));
        }
    }
    Ok(name.to_ascii_lowercase())
}
