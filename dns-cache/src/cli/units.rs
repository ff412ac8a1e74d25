//! Times and sizes as people read them.

/// Seconds, by their two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// With one decimal, rounded down.
pub(super) fn bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((bytes >> (shift - 10)) % 1024) * 10 / 1024;
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{bytes} bytes")
}

/// Microseconds as milliseconds.
pub(super) fn milliseconds(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1536, 5 << 20, 3 << 30].map(bytes),
            [
                "0 bytes",
                "1023 bytes",
                "1.0 KiB",
                "1.5 KiB",
                "5.0 MiB",
                "3.0 GiB"
            ]
        );
        assert_eq!(
            [0, 59, 60, 3_600, 90_000].map(duration),
            ["0s", "59s", "1m 0s", "1h 0m", "1d 1h"]
        );
    }
}
