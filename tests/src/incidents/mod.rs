//! The incidents that dns-cache is to end, and what its own life must not cost: each first on the ordinary path,
//! where the fault must show, then with the agent, where it must not.
//!
//! A scenario is here once; `cargo xtask reproduce` runs it in full, the tests in small.

mod detach;
mod four;
mod ipvs;
mod kill;
mod life;
mod link_local;
mod one;
mod report;
mod stop;
mod tcp;
mod three;
mod two;
mod upgrade;

use std::path::PathBuf;
use std::time::Duration;

pub use report::{Report, Seen};

use crate::agent::AgentConfig;
use crate::pulse::LATE;

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Incident {
    /// How it is called on the command line.
    pub key: &'static str,
    /// What happens, in a line.
    pub title: &'static str,
    run: fn(&Setting) -> Report,
}

/// All, in the order in which they are shown.
pub const ALL: [Incident; 11] = [
    Incident {
        key: "1",
        title: "one of two CoreDNS pods is silent, and conntrack sends every retry to it",
        run: one::run,
    },
    Incident {
        key: "2",
        title: "A and AAAA race in conntrack, and the table is full",
        run: two::run,
    },
    Incident {
        key: "3",
        title: "answers come from the CoreDNS pod's own address",
        run: three::run,
    },
    Incident {
        key: "ipvs",
        title: "the same under kube-proxy in IPVS mode",
        run: ipvs::run,
    },
    Incident {
        key: "4",
        title: "a stale conntrack entry after a restart of CoreDNS breaks a client with a fixed port",
        run: four::run,
    },
    Incident {
        key: "kill",
        title: "the agent is killed (SIGKILL) under load, and started again",
        run: kill::run,
    },
    Incident {
        key: "stop",
        title: "the agent is stopped (SIGSTOP) under load, and goes on (SIGCONT)",
        run: stop::run,
    },
    Incident {
        key: "upgrade",
        title: "agents take over from each other under load",
        run: upgrade::run,
    },
    Incident {
        key: "layout",
        title: "agents take over from each other under load, and their maps have another layout each time",
        run: upgrade::across_layouts,
    },
    Incident {
        key: "link-local",
        title: "the agent is dead, and pods ask the link-local address",
        run: link_local::run,
    },
    Incident {
        key: "detach",
        title: "the agent is ended and detached under load",
        run: detach::run,
    },
];

impl Incident {
    /// The one with this key.
    #[must_use]
    pub fn find(key: &str) -> Option<Self> {
        ALL.into_iter().find(|incident| incident.key == key)
    }

    /// What this machine lacks for it.
    #[must_use]
    pub fn lacks(&self) -> Option<&'static str> {
        (self.key == "ipvs" && !ipvs::is_there()).then_some(
            "this kernel has no IPVS; another one has: cargo xtask kernel 6.12 -- cargo xtask reproduce ipvs --quick",
        )
    }

    /// Makes it happen, in a lab of its own.
    #[must_use]
    pub fn run(&self, setting: &Setting) -> Report {
        (self.run)(setting)
    }
}

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The agent's program; without it, the one that `tools::agent` finds.
    pub agent: Option<PathBuf>,
    /// In full, as the project promises it; otherwise as a short test.
    pub full: bool,
    /// Lookups a second where the agent's life is the matter; 20,000 if not said, and 2,000 in a test.
    pub rate: Option<u32>,
}

impl Setting {
    /// The agent's configuration.
    fn agent(&self) -> AgentConfig {
        let default = AgentConfig::default();
        AgentConfig {
            binary: self.agent.clone(),
            // In a test it is not passed by so soon: on a machine so busy that it gets no turn for half a second, queries
            // would take the ordinary path, whose faults are what is shown.
            wedged_after: self.of(None, default.wedged_after),
            ..default
        }
    }

    /// A number in full, and in small.
    fn of<T>(&self, full: T, small: T) -> T {
        if self.full { full } else { small }
    }
}

/// A stub resolver's time-out and attempts: glibc's.
const PATIENCE: (Duration, u32) = (Duration::from_secs(5), 2);

/// Rounds of what is promised in milliseconds.
const ROUNDS: u32 = 5;

/// Makes it happen, and again if it was not as it has to be while the machine itself was late.
fn in_time(round: impl Fn() -> (Report, Duration)) -> Report {
    for _ in 1..ROUNDS {
        let (report, late) = round();
        if report.problems().is_empty() || late < LATE {
            return report;
        }
        println!("the machine was {late:?} late, so once more after:\n{report}");
    }
    round().0
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 of 1,000`.
fn of(part: u64, whole: u64) -> String {
    format!("{} of {}", grouped(part), grouped(whole))
}

/// A time in the unit that suits it.
fn time(time: Duration) -> String {
    match time.as_millis() {
        0 => format!("{} µs", time.as_micros()),
        millis @ 1..10_000 => format!("{millis} ms"),
        _ => format!("{:.0} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(of(1000, 1_234_567), "1,000 of 1,234,567");
    }

    #[test]
    fn keys_are_unique() {
        for incident in ALL {
            let same = |other: &&Incident| other.key == incident.key;
            assert_eq!(ALL.iter().filter(same).count(), 1, "{}", incident.key);
        }
    }
}
