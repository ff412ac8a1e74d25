//! The filter of the log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::quoted;

pub(in super::super) fn log_level(text: &str) -> Result<String, String> {
    let allowed = "allowed are off, error, warn, info, debug, trace, or levels by module as in info,dns_cache=debug";
    if text.trim().is_empty() {
        return Err(format!("an empty filter; {allowed}"));
    }
    // tracing-subscriber 0.3.23 takes every character for one byte, and panics inside a longer one.
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        return Err(format!("{} contains {c:?}; {allowed}", quoted(text)));
    }
    // A lone word is a module at every level to tracing, so `inof` would silence the agent.
    let spans = text.contains('[');
    if let Some(word) = text
        .split(',')
        .map(str::trim)
        .find(|part| !spans && !part.contains('=') && part.parse::<LevelFilter>().is_err())
    {
        return Err(format!("{} is not a level; {allowed}", quoted(word)));
    }
    match EnvFilter::builder().with_regex(false).parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{} is not a filter; {allowed}", quoted(text))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::log_level;

    #[test]
    fn characters_beyond_ascii_do_not_reach_the_parser() {
        let error = log_level("\n  - \u{8e3}=").unwrap_err();
        assert!(error.contains("contains '\\u{8e3}'"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_filter(text in "([a-z:_-]{0,4}|[=,\\[\\]{}\"]|info|OFF|[ -~\n]){0,12}") {
            let _ = log_level(&text);
        }
    }
}
