//! What happened when, and whether a lookup had to succeed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Outcome;

/// After a time in which nobody could answer: failures are remembered for up to five seconds (RFC 9520).
const SETTLE: Duration = Duration::from_secs(6);

/// What is wrong with the world just now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wrongs {
    /// The agent does not serve: it is dead, stopped, or on its way.
    pub(super) away: bool,
    /// It has left nothing, so that link-local addresses are nobody's.
    pub(super) detached: bool,
    /// A server gives no right answers.
    pub(super) bad: [bool; 2],
    /// A server takes its time.
    pub(super) slow: [bool; 2],
    /// kube-proxy's rules are gone.
    pub(super) no_rules: bool,
    /// The machine does not get round to its work: whose fault a time-out is cannot be told.
    pub(super) starved: bool,
}

impl Wrongs {
    /// Whether a pod that the agent serves may be left without an answer: no server answers rightly; or the agent is
    /// away, and the ordinary path, which knows nothing of its servers' health, is not whole.
    fn is_broken(self) -> bool {
        let [one, other] = self.bad;
        self.starved || (one && other) || self.away && (one || other || self.no_rules)
    }

    fn is_any(self) -> bool {
        self.starved || self.away || self.no_rules || self.bad.contains(&true)
    }
}

/// When a lookup need not succeed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Excuse {
    /// Nobody could answer.
    Broken,
    /// The same; or the agent was detached: for who asks a link-local address.
    Detached,
    /// Anything was wrong: for pods that the agent may not have seen yet.
    Trouble,
}

/// Whether something is so, and when it last was.
#[derive(Debug, Clone, Copy, Default)]
struct Time {
    now: bool,
    ended: Option<Instant>,
}

impl Time {
    fn follow(&mut self, is_so: bool) {
        if self.now && !is_so {
            self.ended = Some(Instant::now());
        }
        self.now = is_so;
    }

    /// Whether it was so at some time since this moment.
    fn overlaps(self, began: Instant) -> bool {
        self.now || self.ended.is_some_and(|ended| began <= ended)
    }

    /// Whether what began at this moment, and lasts until now, had to do with it.
    fn touches(self, began: Instant) -> bool {
        self.overlaps(began) || self.ended.is_some_and(|ended| began <= ended + SETTLE)
    }
}

#[derive(Debug, Default)]
struct State {
    wrongs: Wrongs,
    broken: Time,
    detached: Time,
    no_rules: Time,
    removing: Time,
    removals: u64,
    trouble: Time,
    answered: u64,
    excused: u64,
    events: Vec<String>,
    faults: Vec<String>,
}

/// All threads write into it.
#[derive(Debug)]
pub(super) struct Ledger {
    begun: Instant,
    state: Mutex<State>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            state: Mutex::default(),
        }
    }

    pub(super) const fn begun(&self) -> Instant {
        self.begun
    }

    /// Something that happened.
    pub(super) fn note(&self, event: String) {
        let line = self.line(&event);
        self.state().events.push(line);
    }

    /// Something that happened, and what is wrong from now on.
    pub(super) fn change(&self, event: &str, change: impl FnOnce(&mut Wrongs)) {
        let line = self.line(event);
        let mut state = self.state();
        state.events.push(line);
        change(&mut state.wrongs);
        let wrongs = state.wrongs;
        state.broken.follow(wrongs.is_broken());
        state.detached.follow(wrongs.detached);
        state.no_rules.follow(wrongs.no_rules);
        state.trouble.follow(wrongs.is_any());
    }

    /// Whether a server should answer at once.
    pub(super) fn is_well(&self, server: usize) -> bool {
        let wrongs = self.state().wrongs;
        !wrongs.bad[server] && !wrongs.slow[server]
    }

    /// Whether the machine does not get round to its work just now.
    pub(super) fn starved(&self, starved: bool) {
        if self.state().wrongs.starved != starved {
            let what = match starved {
                true => "the machine is late",
                false => "the machine is in time",
            };
            self.change(what, |wrongs| wrongs.starved = starved);
        }
    }

    /// A lookup with a right answer.
    pub(super) fn answered(&self) {
        self.state().answered += 1;
    }

    /// A lookup without an answer, from its first packet until now.
    pub(super) fn failed(&self, what: &str, sent: Instant, excuse: Excuse) {
        let mut state = self.state();
        let excuses = match excuse {
            Excuse::Broken => vec![state.broken],
            Excuse::Detached => vec![state.broken, state.detached],
            Excuse::Trouble => vec![state.trouble],
        };
        if excuses.iter().any(|time| time.touches(sent)) {
            state.excused += 1;
        } else {
            drop(state);
            self.fault(what.to_owned());
        }
    }

    /// Something that must never be.
    pub(super) fn fault(&self, what: String) {
        let line = self.line(&what);
        self.state().faults.push(line);
    }

    /// Whether answers after their TTL are right for a query of this moment: a server was failing, or has just been.
    pub(super) fn allows_stale(&self, sent: Instant) -> bool {
        self.state().trouble.touches(sent)
    }

    /// Whether nobody could answer rightly at some time since this moment.
    pub(super) fn was_broken(&self, since: Instant) -> bool {
        self.state().broken.overlaps(since)
    }

    /// Whether the ordinary path was without its rules at some time since this moment.
    pub(super) fn had_no_rules(&self, since: Instant) -> bool {
        self.state().no_rules.overlaps(since)
    }

    /// The number of the removal that went on at some time since this moment.
    pub(super) fn removal(&self, since: Instant) -> Option<u64> {
        let state = self.state();
        state.removing.overlaps(since).then_some(state.removals)
    }

    /// Removes all that the agent has left.
    pub(super) fn remove(&self, remove: impl FnOnce()) {
        let follow = |is_so: bool| {
            let mut state = self.state();
            state.removing.follow(is_so);
            state.removals += u64::from(is_so);
        };
        follow(true);
        remove();
        follow(false);
    }

    pub(super) fn outcome(self, seed: u64, log: String) -> Outcome {
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        Outcome {
            seed,
            answered: state.answered,
            excused: state.excused,
            events: state.events,
            faults: state.faults,
            log,
        }
    }

    fn line(&self, text: &str) -> String {
        format!("{:8.3} s  {text}", self.begun.elapsed().as_secs_f64())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordinary_path_serves_while_the_agent_is_away() {
        let ledger = Ledger::new();
        let outcome = |ledger: &Ledger| {
            ledger.failed("lookup", Instant::now(), Excuse::Broken);
            let state = ledger.state();
            (state.excused, state.faults.len())
        };
        ledger.change("killed", |wrongs| wrongs.away = true);
        assert_eq!(outcome(&ledger), (0, 1));
        ledger.change("a server is silent", |wrongs| wrongs.bad[0] = true);
        assert_eq!(outcome(&ledger), (1, 1));
    }

    #[test]
    fn with_the_agent_one_server_is_enough() {
        let ledger = Ledger::new();
        ledger.change("no rules", |wrongs| wrongs.no_rules = true);
        ledger.change("a server is silent", |wrongs| wrongs.bad[1] = true);
        ledger.failed("lookup", Instant::now(), Excuse::Broken);
        ledger.change("the other, too", |wrongs| wrongs.bad[0] = true);
        ledger.failed("lookup", Instant::now(), Excuse::Broken);
        let outcome = ledger.outcome(1, String::new());
        assert_eq!((outcome.excused, outcome.faults.len()), (1, 1));
        assert_eq!(outcome.events.len(), 3);
    }
}
