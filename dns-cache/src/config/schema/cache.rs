//! `cache`: its bounds, prefetch and serve-stale.

use super::super::errors::Report;
use super::super::section::Section;
use super::super::setting::Setting;
use super::super::value::{choice, number};
use super::super::{CacheLimits, Prefetch, ServeStale, defaults};

pub(super) const KEYS: [&str; 5] = ["maxEntries", "maxBytes", "kernel", "prefetch", "serveStale"];
pub(super) const PREFETCH_KEYS: [&str; 3] = ["percent", "minSeconds", "minHits"];
pub(super) const STALE_KEYS: [&str; 4] = ["enabled", "afterMillis", "maxSeconds", "ttl"];

/// All below `cache`.
pub(super) struct Cache {
    pub(super) limits: CacheLimits,
    pub(super) prefetch: Prefetch,
    pub(super) serve_stale: ServeStale,
}

pub(super) fn read(top: &Section<'_>, report: &mut Report) -> Cache {
    let section = top.section("cache", &KEYS, report);
    let mut limit = |key, rule, default| {
        Setting::scalar(&section, key, None, rule, report)
            .valid()
            .unwrap_or(default)
    };
    let limits = CacheLimits {
        max_entries: limit("maxEntries", number::entries, defaults::CACHE.max_entries),
        max_bytes: limit("maxBytes", number::bytes, defaults::CACHE.max_bytes),
        kernel: Setting::scalar(&section, "kernel", None, choice::switch, report)
            .valid()
            .unwrap_or(defaults::CACHE.kernel),
    };
    Cache {
        limits,
        prefetch: prefetch(&section, report),
        serve_stale: serve_stale(&section, report),
    }
}

fn prefetch(cache: &Section<'_>, report: &mut Report) -> Prefetch {
    let section = cache.section("prefetch", &PREFETCH_KEYS, report);
    let default = defaults::PREFETCH;
    let mut number = |key, rule, default| {
        Setting::scalar(&section, key, None, rule, report)
            .valid()
            .unwrap_or(default)
    };
    Prefetch {
        percent: number("percent", number::prefetch_percent, default.percent),
        min_seconds: number("minSeconds", number::prefetch_seconds, default.min_seconds),
        min_hits: number("minHits", number::prefetch_hits, default.min_hits),
    }
}

fn serve_stale(cache: &Section<'_>, report: &mut Report) -> ServeStale {
    let section = cache.section("serveStale", &STALE_KEYS, report);
    let default = defaults::SERVE_STALE;
    let enabled = Setting::scalar(&section, "enabled", None, choice::switch, report);
    let mut number = |key, rule, default| {
        Setting::scalar(&section, key, None, rule, report)
            .valid()
            .unwrap_or(default)
    };
    ServeStale {
        enabled: enabled.valid().unwrap_or(default.enabled),
        after_millis: number("afterMillis", number::stale_millis, default.after_millis),
        max_seconds: number("maxSeconds", number::stale_seconds, default.max_seconds),
        ttl: number("ttl", number::stale_ttl, default.ttl),
    }
}
