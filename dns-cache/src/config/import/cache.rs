//! `cache`: how long a zone's answers are kept.

use super::convert::Notes;
use super::corefile::Directive;
use super::names;

/// CoreDNS's own caps, where `cache` says none.
const SUCCESS: u32 = 3_600;
const DENIAL: u32 = 1_800;
/// A cap in a configuration is at most a day.
const MOST: u32 = 86_400;
const MOST_STALE: u32 = 259_200;

/// Caps of one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ttl {
    pub(super) positive: u32,
    pub(super) negative: u32,
    pub(super) minimum: u32,
}

impl Ttl {
    /// Nothing is kept.
    pub(super) const NONE: Self = Self {
        positive: 0,
        negative: 0,
        minimum: 0,
    };
}

/// What holds for all zones of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shared {
    /// The largest capacity of any zone.
    pub(super) entries: Option<u64>,
    pub(super) prefetch: Option<Prefetch>,
    /// Seconds.
    pub(super) serve_stale: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefetch {
    pub(super) min_hits: u32,
    pub(super) percent: u32,
}

/// The caps of a block's zones; `served` are those that CoreDNS has from the cluster itself.
pub(super) fn read(
    directive: &Directive,
    served: &[String],
    shared: &mut Shared,
    notes: &mut Notes,
) -> Ttl {
    let cap = directive.args.first().and_then(|arg| names::seconds(arg));
    let mut ttl = Ttl {
        positive: cap.unwrap_or(SUCCESS),
        negative: cap.unwrap_or(DENIAL),
        minimum: 0,
    };
    if directive.args.len() > usize::from(cap.is_some()) {
        notes.add(
            directive,
            "all names of the block are cached, not those of the zones alone",
        );
    }
    let mut entries = 0;
    for option in &directive.block {
        let number = |n: usize| option.args.get(n).and_then(|arg| names::seconds(arg));
        match &*option.name {
            "success" => {
                entries += u64::from(number(0).unwrap_or_default());
                ttl.positive = number(1).unwrap_or(ttl.positive);
                ttl.minimum = number(2).unwrap_or(ttl.minimum);
            }
            "denial" => {
                entries += u64::from(number(0).unwrap_or_default());
                ttl.negative = number(1).unwrap_or(ttl.negative);
                if number(2).is_some_and(|least| least != ttl.minimum) {
                    notes.add(
                        option,
                        format!(
                            "the least TTL is one for all answers of a zone: {}",
                            ttl.minimum
                        ),
                    );
                }
            }
            "prefetch" => shared.prefetch = Some(prefetch(option)),
            "serve_stale" => {
                let seconds = number(0).unwrap_or(3_600).clamp(1, MOST_STALE);
                shared.serve_stale = shared.serve_stale.max(Some(seconds));
                if option.args.get(1).is_some_and(|mode| mode == "immediate") {
                    notes.add(option, "a stale answer is given when the servers fail or take longer than 1.8 s, not at once");
                }
            }
            "disable" => disable(option, served, &mut ttl, notes),
            "servfail" => notes.add(
                option,
                "a failure is remembered for as long as that serves, 5 s at most",
            ),
            "keepttl" => notes.add(
                option,
                "TTLs count down, so that no client keeps an answer beyond its time",
            ),
            _ => notes.add(option, "unknown; ignored"),
        }
    }
    // What the rules of a configuration allow.
    if entries > 0 {
        let entries = entries.clamp(100, 10_000_000);
        shared.entries = shared.entries.max(Some(entries));
    }
    Ttl {
        positive: ttl.positive.min(MOST),
        negative: ttl.negative.min(MOST),
        minimum: ttl.minimum.min(ttl.positive).min(MOST),
    }
}

/// `prefetch AMOUNT [DURATION] [PERCENTAGE%]`
fn prefetch(option: &Directive) -> Prefetch {
    let amount = option.args.first().and_then(|arg| arg.parse().ok());
    let percent = option.args.iter().find_map(|arg| arg.strip_suffix('%'));
    let percent = percent.and_then(|arg| arg.parse().ok());
    Prefetch {
        min_hits: amount.unwrap_or(1).clamp(1, 1_000_000),
        percent: percent.unwrap_or(10).min(90),
    }
}

/// `disable success|denial [ZONES]`
fn disable(option: &Directive, served: &[String], ttl: &mut Ttl, notes: &mut Notes) {
    let zones = option.args.get(1..).unwrap_or_default();
    if !zones.is_empty() && zones.iter().all(|zone| served.contains(zone)) {
        let instead = "there it spares a second copy of what the plugin kubernetes has; on the node cluster.ttl holds";
        return notes.add(option, instead);
    }
    match option.args.first().map(String::as_str) {
        Some("success") if zones.is_empty() => ttl.positive = 0,
        Some("denial") if zones.is_empty() => ttl.negative = 0,
        _ => notes.add(
            option,
            "the caps of a zone hold for all of its names; give the zones caps of their own",
        ),
    }
}
