//! Patterns for interface names.

use super::super::InterfacePattern;
use super::quoted;

/// The kernel's IFNAMSIZ, less the closing NUL.
const LONGEST_NAME: usize = 15;

pub(in super::super) fn pattern(text: &str) -> Result<InterfacePattern, String> {
    let (exclude, glob) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if glob.is_empty() {
        return Err(format!(
            "{} names no interface; give a pattern such as veth* or !veth-infra*",
            quoted(text)
        ));
    }
    if exclude && glob == InterfacePattern::AUTO {
        return Err(format!(
            "{} excludes whatever leads to a pod; give the names that are to be left out",
            quoted(text)
        ));
    }
    let unusable = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '/' | ':' | '!' | '?' | '[' | ']' | '{' | '}')
    };
    if let Some(c) = glob.chars().find(|c| unusable(*c)) {
        return Err(format!(
            "{} contains {c:?}, which no interface's name has; the only wildcard is *, and ! excludes at the front only",
            quoted(text)
        ));
    }
    let literal = glob.replace('*', "").len();
    if literal > LONGEST_NAME {
        return Err(format!(
            "{} is {literal} bytes long without its *; an interface's name has at most {LONGEST_NAME}, so it matches none",
            quoted(text)
        ));
    }
    Ok(InterfacePattern {
        exclude,
        glob: glob.to_owned(),
    })
}
