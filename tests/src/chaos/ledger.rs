//! What happened when, and whether a lookup had to succeed.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LATE, Outcome};

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
    /// The node's conntrack table is full.
    pub(super) full: bool,
    /// The agent's maps begin anew, in another layout.
    pub(super) new_layout: bool,
}

impl Wrongs {
    /// Whether the ordinary path, which knows nothing of its servers' health, may lose a lookup.
    fn mars_the_ordinary_path(self) -> bool {
        self.bad.contains(&true) || self.no_rules || self.full
    }
}

/// Why a lookup need not succeed, or why an answer may come from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No server answers rightly.
    Servers,
    /// The agent is away, and the ordinary path is not whole.
    Ordinary,
    /// The agent is away. No excuse alone: the ordinary path is there.
    Away,
    /// The agent may not have seen the pod yet, and the ordinary path is not whole.
    Unseen,
    /// The agent was detached, and link-local addresses are nobody's.
    Detached,
    /// The conntrack table is full.
    Table,
    /// kube-proxy's rules are gone.
    NoRules,
    /// The agent's maps begin anew.
    NewLayout,
    /// The machine does not get round to its work, for so long that whose fault a time-out is cannot be told.
    Late,
}

impl Cause {
    const ALL: [Self; 9] = [
        Self::Servers,
        Self::Ordinary,
        Self::Away,
        Self::Unseen,
        Self::Detached,
        Self::Table,
        Self::NoRules,
        Self::NewLayout,
        Self::Late,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Servers => "no server answered rightly",
            Self::Ordinary => "the agent was away, the ordinary path not whole",
            Self::Away => "the agent was away",
            Self::Unseen => "a pod was new, the ordinary path not whole",
            Self::Detached => "nobody had the link-local address",
            Self::Table => "the node's own, and the conntrack table was full",
            Self::NoRules => "kube-proxy's rules were gone",
            Self::NewLayout => "the agent's maps began anew",
            Self::Late => "the machine was late",
        }
    }

    fn is_now(self, wrongs: Wrongs) -> bool {
        let [one, other] = wrongs.bad;
        match self {
            // A connection that is lost while the table is full cannot be made anew.
            Self::Servers => one && other || wrongs.full && (one || other),
            Self::Ordinary => wrongs.away && wrongs.mars_the_ordinary_path(),
            Self::Away => wrongs.away,
            Self::Unseen => wrongs.mars_the_ordinary_path(),
            Self::Detached => wrongs.detached,
            Self::Table => wrongs.full,
            Self::NoRules => wrongs.no_rules,
            Self::NewLayout => wrongs.new_layout,
            // Not a state, but a sum: `State::is_late`.
            Self::Late => false,
        }
    }

    /// For how long it is felt: the agent remembers failures for up to five seconds (RFC 9520), the ordinary path none.
    const fn felt(self) -> Duration {
        match self {
            Self::Servers => SETTLE,
            _ => Duration::ZERO,
        }
    }
}

const SETTLE: Duration = Duration::from_secs(6);
/// A machine that was late by so much in the time that a failure is felt may have lost a lookup: this is how long an agent
/// that makes no progress is waited for until it is passed by. A beat or two that come late lose none.
const MUCH: Duration = Duration::from_millis(500);
/// Of all lookups, one in so many may be excused by that, or nothing is proved.
const MOST_LATE: u64 = 5;

/// Lookups that need not have succeeded, by what excused each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Excused([u64; Cause::ALL.len()]);

impl Excused {
    /// How many there are.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many this one has excused.
    #[must_use]
    pub const fn by(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }
}

/// A line each.
impl fmt::Display for Excused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = Cause::ALL.map(|cause| (self.by(cause), cause.name()));
        by.iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, name)| write!(f, "\n  {count} unanswered: {name}"))
    }
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
        self.touches(began, Duration::ZERO)
    }

    /// Whether what began at this moment, and lasts until now, had to do with it, as it was felt for so long.
    fn touches(self, began: Instant, felt: Duration) -> bool {
        self.now || self.ended.is_some_and(|ended| began <= ended + felt)
    }
}

#[derive(Debug, Default)]
struct State {
    wrongs: Wrongs,
    times: [Time; Cause::ALL.len()],
    removing: Time,
    removals: u64,
    /// When the machine was late, and by how much.
    late: Vec<(Instant, Duration)>,
    /// The last beat.
    beat: Option<Instant>,
    answered: u64,
    excused: Excused,
    events: Vec<String>,
    faults: Vec<String>,
}

impl State {
    fn had(&self, cause: Cause, since: Instant) -> bool {
        match cause {
            Cause::Late => self.is_late(since),
            cause => self.times[cause as usize].overlaps(since),
        }
    }

    /// What of this excuses a lookup that began at this moment.
    fn excuse(&self, excuses: &[Cause], began: Instant) -> Option<Cause> {
        excuses.iter().copied().find(|c| self.touches(*c, began))
    }

    /// Whether what began at this moment, and lasts until now, had to do with it.
    fn touches(&self, cause: Cause, began: Instant) -> bool {
        match cause {
            Cause::Late => self.is_late(began),
            cause => self.times[cause as usize].touches(began, cause.felt()),
        }
    }

    /// Whether the machine was late by much since this moment, or shortly before it.
    fn is_late(&self, since: Instant) -> bool {
        let latest = self.late.iter().rev();
        let felt = latest.take_while(|(at, _)| since <= *at + SETTLE);
        let told: Duration = felt.map(|(_, by)| *by).sum();
        // It may be so late that it has not been told yet.
        let pending = self.beat.map_or(Duration::ZERO, |beat| beat.elapsed());
        let pending = if pending > LATE {
            pending
        } else {
            Duration::ZERO
        };
        told + pending >= MUCH
    }
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
        for cause in Cause::ALL {
            state.times[cause as usize].follow(cause.is_now(wrongs));
        }
    }

    /// Whether a server should answer at once.
    pub(super) fn is_well(&self, server: usize) -> bool {
        let wrongs = self.state().wrongs;
        !wrongs.bad[server] && !wrongs.slow[server]
    }

    /// The machine got round to what was due, late by so much.
    pub(super) fn beat(&self, late: Duration) {
        let mut state = self.state();
        state.beat = Some(Instant::now());
        if late > LATE {
            let event = self.line(&format!("the machine is late by {late:?}"));
            state.late.push((Instant::now(), late));
            state.events.push(event);
        }
    }

    /// A lookup with a right answer.
    pub(super) fn answered(&self) {
        self.state().answered += 1;
    }

    /// A lookup without an answer, from its first packet until now.
    pub(super) fn failed(&self, what: &str, sent: Instant, excuses: &[Cause]) {
        let mut state = self.state();
        match state.excuse(excuses, sent) {
            Some(cause) => state.excused.0[cause as usize] += 1,
            None => {
                drop(state);
                self.fault(what.to_owned());
            }
        }
    }

    /// Something that must never be.
    pub(super) fn fault(&self, what: String) {
        let line = self.line(&what);
        self.state().faults.push(line);
    }

    /// Whether answers after their TTL are right for a query of this moment: no server answers rightly, or none has until
    /// just now, or it cannot be told.
    pub(super) fn allows_stale(&self, sent: Instant) -> bool {
        let state = self.state();
        let mut either = [Cause::Servers, Cause::Late].into_iter();
        either.any(|cause| state.touches(cause, sent))
    }

    /// Whether this was so at some time since this moment.
    pub(super) fn had(&self, cause: Cause, since: Instant) -> bool {
        self.state().had(cause, since)
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
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let (late, all) = (
            state.excused.by(Cause::Late),
            state.answered + state.excused.all(),
        );
        if late * MOST_LATE > all {
            let what = format!(
                "of {all} lookups {late} are excused by a machine that is too busy: this proves nothing"
            );
            state.faults.push(what);
        }
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

    /// One lookup that fails now: those that were excused so far, and the faults.
    fn fails(ledger: &Ledger, excuses: &[Cause]) -> (u64, usize) {
        ledger.failed("lookup", Instant::now(), excuses);
        let state = ledger.state();
        (state.excused.all(), state.faults.len())
    }

    const POD: &[Cause] = &[Cause::Servers, Cause::Ordinary];

    #[test]
    fn the_ordinary_path_serves_while_the_agent_is_away() {
        let ledger = Ledger::new();
        ledger.change("killed", |wrongs| wrongs.away = true);
        assert_eq!(fails(&ledger, POD), (0, 1));
        ledger.change("a server is silent", |wrongs| wrongs.bad[0] = true);
        assert_eq!(fails(&ledger, POD), (1, 1));
        ledger.change("it serves", |wrongs| wrongs.away = false);
        assert_eq!(fails(&ledger, POD), (1, 2));
    }

    #[test]
    fn with_the_agent_one_server_is_enough() {
        let ledger = Ledger::new();
        ledger.change("no rules", |wrongs| wrongs.no_rules = true);
        ledger.change("a server is silent", |wrongs| wrongs.bad[1] = true);
        assert_eq!(fails(&ledger, POD), (0, 1));
        ledger.change("the other, too", |wrongs| wrongs.bad[0] = true);
        assert_eq!(fails(&ledger, POD), (1, 1));
        ledger.change("both are well", |wrongs| wrongs.bad = [false; 2]);
        // Failures are remembered.
        assert_eq!(fails(&ledger, POD), (2, 1));
        let outcome = ledger.outcome(1, String::new());
        assert_eq!(outcome.excused.by(Cause::Servers), 2);
        assert_eq!(outcome.events.len(), 4);
    }

    #[test]
    fn a_late_beat_excuses_nothing_but_many_do() {
        const LATELY: &[Cause] = &[Cause::Late];
        let ledger = Ledger::new();
        ledger.beat(MUCH / 2);
        ledger.beat(LATE / 2);
        assert_eq!(fails(&ledger, LATELY), (0, 1));
        assert!(!ledger.allows_stale(Instant::now()));
        ledger.beat(MUCH / 2);
        assert_eq!(fails(&ledger, LATELY), (1, 1));
        assert!(ledger.allows_stale(Instant::now()));
        let later = Instant::now() + SETTLE + LATE;
        assert!(!ledger.had(Cause::Late, later), "it is over by then");
        let outcome = ledger.outcome(1, String::new());
        assert!(outcome.faults[1].contains("proves nothing"), "{outcome}");
    }

    #[test]
    fn an_agent_that_is_away_gives_nothing_old() {
        let ledger = Ledger::new();
        ledger.change("killed", |wrongs| wrongs.away = true);
        ledger.change("a server is silent", |wrongs| wrongs.bad[0] = true);
        assert!(!ledger.allows_stale(Instant::now()));
        ledger.change("both are", |wrongs| wrongs.bad = [true; 2]);
        assert!(ledger.allows_stale(Instant::now()));
    }

    #[test]
    fn a_full_table_is_felt_by_the_nodes_own_alone() {
        let ledger = Ledger::new();
        ledger.change("full", |wrongs| wrongs.full = true);
        assert_eq!(fails(&ledger, POD), (0, 1));
        assert_eq!(fails(&ledger, &[Cause::Servers, Cause::Table]), (1, 1));
    }
}
