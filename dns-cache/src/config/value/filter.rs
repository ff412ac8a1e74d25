//! The filter of the log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::quoted;

pub(in super::super) fn log_level(text: &str) -> Result<String, String> {
    let allowed = "allowed are off, error, warn, info, debug, trace, or levels by module as in info,dns_cache=debug";
    if text.trim().is_empty() {
        return Err(format!("an empty filter; {allowed}"));
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
