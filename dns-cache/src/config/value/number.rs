//! Whole numbers, with a multiplier where sizes are meant.

use std::ops::RangeInclusive;

use super::quoted;

/// A day: a cap beyond it is none.
const TTL: RangeInclusive<u64> = 0..=86_400;
const ENTRIES: RangeInclusive<u64> = 100..=10_000_000;
const BYTES: RangeInclusive<u64> = 1024 * 1024..=64 * 1024 * 1024 * 1024;

const MULTIPLIERS: [(&str, u64); 6] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];

/// A cap on a TTL, in seconds.
pub(in super::super) fn seconds(text: &str) -> Result<u32, String> {
    let allowed = "give whole seconds from 0 (not kept) to 86400";
    whole(text)
        .filter(|seconds| TTL.contains(seconds))
        .and_then(|seconds| u32::try_from(seconds).ok())
        .ok_or_else(|| format!("{} found; {allowed}", quoted(text)))
}

/// The last part of a TTL, in percent.
pub(in super::super) fn prefetch_percent(text: &str) -> Result<u32, String> {
    within(text, 0..=90, "percent", " (0: no prefetch)")
}

/// The least length of that part.
pub(in super::super) fn prefetch_seconds(text: &str) -> Result<u32, String> {
    within(text, 0..=60, "seconds", "")
}

/// The hits that make an entry one in use.
pub(in super::super) fn prefetch_hits(text: &str) -> Result<u32, String> {
    within(text, 1..=1_000_000, "hits", "")
}

/// The time that upstreams have before a stale answer is given; a client has none left after 3.5 s.
pub(in super::super) fn stale_millis(text: &str) -> Result<u32, String> {
    within(text, 0..=3_500, "milliseconds", "")
}

/// How long after its TTL an answer may be given (RFC 8767 §5.11 has one to three days as the most).
pub(in super::super) fn stale_seconds(text: &str) -> Result<u32, String> {
    within(text, 1..=259_200, "seconds", "")
}

/// The TTL of a stale answer.
pub(in super::super) fn stale_ttl(text: &str) -> Result<u32, String> {
    within(text, 1..=300, "seconds", "")
}

/// Queries that wait at once.
pub(in super::super) fn queries(text: &str) -> Result<usize, String> {
    within(text, 1..=1_000_000, "queries", "").map(|number| number as usize)
}

/// The time without progress that makes an agent count as dead: several of its heartbeats at least.
pub(in super::super) fn wedged_millis(text: &str) -> Result<u32, String> {
    within(text, 100..=60_000, "milliseconds", "")
}

/// A whole number of `unit` within bounds; `note` says more about them.
fn within(text: &str, allowed: RangeInclusive<u32>, unit: &str, note: &str) -> Result<u32, String> {
    whole(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            format!(
                "{} found; give whole {unit} from {least} to {most}{note}",
                quoted(text)
            )
        })
}

/// Events a second; 0 is no limit.
pub(in super::super) fn rate(text: &str) -> Result<u32, String> {
    up_to_a_million(text, 0).ok_or_else(|| {
        let found = quoted(text);
        format!("{found} found; give a whole number from 0 (no limit) to 1M")
    })
}

/// Events at once.
pub(in super::super) fn burst(text: &str) -> Result<u32, String> {
    up_to_a_million(text, 1)
        .ok_or_else(|| format!("{} found; give a whole number from 1 to 1M", quoted(text)))
}

fn up_to_a_million(text: &str, least: u32) -> Option<u32> {
    let number = u32::try_from(multiplied(text)?).ok()?;
    (least..=1_000_000).contains(&number).then_some(number)
}

/// A number of cache entries.
pub(in super::super) fn entries(text: &str) -> Result<u64, String> {
    multiplied(text)
        .filter(|entries| ENTRIES.contains(entries))
        .ok_or_else(|| {
            format!(
                "{} found; give a whole number from 100 to 10M",
                quoted(text)
            )
        })
}

/// A number of bytes.
pub(in super::super) fn bytes(text: &str) -> Result<u64, String> {
    multiplied(text).filter(|bytes| BYTES.contains(bytes)).ok_or_else(|| {
        format!(
            "{} found; give bytes from 1Mi to 64Gi, as a whole number or with Ki, Mi, Gi, k, M or G",
            quoted(text)
        )
    })
}

fn multiplied(text: &str) -> Option<u64> {
    let with_suffix = MULTIPLIERS
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?.trim_end(), *factor)));
    let (digits, factor) = with_suffix.unwrap_or((text, 1));
    whole(digits)?.checked_mul(factor)
}

fn whole(text: &str) -> Option<u64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    // An octal number in YAML 1.1: neither reading is surely what was meant.
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    text.parse().ok().or_else(|| scientific(text))
}

/// Helm turns the number 1000000 of a values file into the text `1e+06`.
fn scientific(text: &str) -> Option<u64> {
    let (digits, exponent) = text.split_once("e+")?;
    let mut exponent: usize = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    exponent = exponent
        .checked_sub(fraction.len())
        .filter(|zeros| *zeros < 20)?;
    format!("{whole}{fraction}{}", "0".repeat(exponent))
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{multiplied, whole};

    #[test]
    fn multipliers_are_binary_or_decimal() {
        for (text, value) in [
            ("1", 1),
            ("64Mi", 64 << 20),
            ("64 Mi", 64 << 20),
            ("2Gi", 2 << 30),
            ("3Ki", 3072),
            ("10k", 10_000),
            ("5M", 5_000_000),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(multiplied(text), Some(value), "{text}");
        }
        for text in [
            "",
            "Mi",
            "-1",
            "+1",
            "1.5Mi",
            "1T",
            "64mi",
            "20000000000G",
            "1_000",
            "0x10",
            "010",
        ] {
            assert_eq!(multiplied(text), None, "{text}");
        }
    }

    #[test]
    fn helm_writes_large_numbers_with_an_exponent() {
        assert_eq!(whole("1e+06"), Some(1_000_000));
        assert_eq!(whole("6.7108864e+07"), Some(67_108_864));
        for text in ["1.5e+00", "1e-06", "e+06", "1e+99", "1e+", "1.e+x"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
