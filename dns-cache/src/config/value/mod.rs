//! The rules for single values, one kind a file. Each says what was found and what is allowed.

pub(super) mod address;
pub(super) mod choice;
pub(super) mod filter;
pub(super) mod interface;
pub(super) mod kubernetes;
pub(super) mod name;
pub(super) mod network;
pub(super) mod number;
pub(super) mod path;

/// Text from the outside as it may be shown: quoted, escaped, not longer than a line.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn quoted_text_is_escaped_and_short() {
        assert_eq!(super::quoted("a\nb"), r#""a\nb""#);
        assert_eq!(
            super::quoted(&"ü".repeat(100)),
            format!("\"{}\"…", "ü".repeat(60))
        );
    }
}
