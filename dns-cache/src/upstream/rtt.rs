//! Round-trip times of a server's last answers.

use std::time::Duration;

/// So many answers are remembered.
const KEPT: usize = 128;
/// The quantiles are found anew after so many.
const EVERY: usize = 16;

/// The last round-trip times, and what may be expected from them.
#[derive(Debug, Default)]
pub(super) struct Rtts {
    micros: Vec<u32>,
    next: usize,
    quantiles: Option<Quantiles>,
}

/// What half and 95 % of the answers take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub(super) p50: Duration,
    pub(super) p95: Duration,
}

impl Rtts {
    pub(super) fn record(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.micros.len() < KEPT {
            self.micros.push(took);
        } else {
            self.micros[self.next] = took;
        }
        self.next = (self.next + 1) % KEPT;
        if self.micros.len() < EVERY || self.next.is_multiple_of(EVERY) {
            self.quantiles = Some(quantiles(self.micros.clone()));
        }
    }

    /// `None` before the first answer.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        self.quantiles
    }
}

/// By nearest rank; there is at least one sample.
fn quantiles(mut samples: Vec<u32>) -> Quantiles {
    samples.sort_unstable();
    let at = |percent: usize| {
        let rank = (samples.len() * percent).div_ceil(100);
        Duration::from_micros(samples[rank.saturating_sub(1)].into())
    };
    Quantiles {
        p50: at(50),
        p95: at(95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_follow_the_last_answers() {
        let mut rtts = Rtts::default();
        assert_eq!(rtts.quantiles(), None);
        for micros in 1..=100 {
            rtts.record(Duration::from_micros(micros));
        }
        let Quantiles { p50, p95 } = rtts.quantiles().unwrap();
        // Of the first 96, when they were last found.
        assert_eq!((p50.as_micros(), p95.as_micros()), (48, 92));
        for _ in 0..KEPT {
            rtts.record(Duration::from_millis(7));
        }
        let seven = Duration::from_millis(7);
        assert_eq!(
            rtts.quantiles(),
            Some(Quantiles {
                p50: seven,
                p95: seven
            })
        );
    }

    #[test]
    fn a_single_answer_is_all_that_is_known() {
        let mut rtts = Rtts::default();
        rtts.record(Duration::from_secs(u64::MAX));
        let longest = Duration::from_micros(u32::MAX.into());
        assert_eq!(rtts.quantiles().unwrap().p95, longest);
    }
}
