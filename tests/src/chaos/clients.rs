//! Clients that compare every answer with the zone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::World;
use super::ledger::Cause;
use super::zone::{self, Kind};
use crate::addresses::{CLUSTER_IP, Family, LINK_LOCAL, Pair};
use crate::client::{Client, Failure, Tcp, Udp};
use crate::random::Random;
use crate::wire::{Message, Query, rtype};

/// A try's time-out, and how many there are, from the same port.
const TIMEOUT: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;
/// Lookups over one TCP connection.
const PER_CONNECTION: u32 = 10;

/// A client's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// UDP, each lookup from a port of its own.
    Fresh,
    /// The same, A and AAAA at once.
    Pair,
    /// UDP, all lookups from one port.
    Fixed,
    /// TCP, some lookups a connection.
    Tcp,
}

const STYLES: [Style; 4] = [Style::Fresh, Style::Pair, Style::Fixed, Style::Tcp];

/// One client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// The pod; none is the node itself.
    pod: Option<usize>,
    family: Family,
    style: Style,
    server: Pair,
    excuses: &'static [Cause],
}

/// Why a lookup may fail that a pod sends to the ClusterIP, or to a link-local address;
const POD: &[Cause] = &[Cause::Servers, Cause::Ordinary, Cause::Late];
const LINK_LOCAL_POD: &[Cause] = &[
    Cause::Servers,
    Cause::Ordinary,
    Cause::Detached,
    Cause::Late,
];
/// and the node's own, which conntrack sees.
const NODE: &[Cause] = &[Cause::Servers, Cause::Ordinary, Cause::Table, Cause::Late];
const LINK_LOCAL_NODE: &[Cause] = &[
    Cause::Servers,
    Cause::Ordinary,
    Cause::Detached,
    Cause::Table,
    Cause::Late,
];

/// One of each that asks the ClusterIP, half of them in either pod; and some of all others.
pub(super) fn all() -> Vec<Habit> {
    let styles = |family| STYLES.map(|style| (family, style));
    let habits = Family::BOTH.into_iter().flat_map(styles).enumerate();
    let habits = habits.map(|(index, (family, style))| Habit {
        pod: Some((index + index / STYLES.len()) % 2),
        family,
        style,
        server: CLUSTER_IP,
        excuses: POD,
    });
    let others = [
        (Some(0), LINK_LOCAL, LINK_LOCAL_POD),
        (None, LINK_LOCAL, LINK_LOCAL_NODE),
        (None, CLUSTER_IP, NODE),
    ];
    let others = others.into_iter().flat_map(|(pod, server, excuses)| {
        let styles = [
            (Family::V4, Style::Pair),
            (Family::V6, Style::Fresh),
            (Family::V4, Style::Tcp),
        ];
        styles.map(|(family, style)| Habit {
            pod,
            family,
            style,
            server,
            excuses,
        })
    });
    habits.chain(others).collect()
}

/// Asks until all is over.
pub(super) fn ask(world: &World<'_>, habit: Habit, mut random: Random) {
    let netns = match habit.pod {
        Some(pod) => world.lab.pod(pod).netns(),
        None => world.lab.node().netns(),
    };
    let client = Client::new(Arc::clone(netns), habit.server.dns(habit.family));
    let mut asker = Asker::new(client, habit.style, habit.excuses);
    while !world.is_over() {
        asker.lookup(world, &mut random);
        world.pass(random.millis(2, 20));
    }
}

/// A client, and what it keeps from lookup to lookup.
pub(super) struct Asker {
    client: Client,
    style: Style,
    excuses: &'static [Cause],
    udp: Option<Udp>,
    tcp: Option<(Tcp, u32)>,
    /// The last removal at which an answer went astray, and when its query was sent.
    astray: Option<(u64, Instant)>,
    /// When the last lookup began.
    last: Option<Instant>,
}

/// Why a try brought nothing.
enum Bad {
    /// Nothing that could be read.
    Failed(Failure),
    /// Silence, or an answer that a client takes for none.
    Nothing(String),
    /// An answer that is taken, and wrong.
    Wrong(String),
}

impl Asker {
    pub(super) fn new(client: Client, style: Style, excuses: &'static [Cause]) -> Self {
        Self {
            client: client.timeout(TIMEOUT),
            style,
            excuses,
            udp: None,
            tcp: None,
            astray: None,
            last: None,
        }
    }

    /// One lookup, written into the ledger.
    pub(super) fn lookup(&mut self, world: &World<'_>, random: &mut Random) {
        let name = match random.below(20) {
            0..12 => Kind::Hot.name(random.below(20)),
            12..16 => Kind::Unique.name(random.next()),
            16..18 => Kind::V4Only.name(random.below(10)),
            _ => Kind::Missing.name(random.below(10)),
        };
        let rtypes = match self.style {
            Style::Pair => vec![rtype::A, rtype::AAAA],
            _ => vec![random.one_of([rtype::A, rtype::AAAA])],
        };
        let id = random.next() as u16;
        let query = |(nth, rtype)| Query::new(&name, rtype).id(id.wrapping_add(nth));
        let mut open: Vec<_> = (0..).zip(rtypes).map(query).collect();
        if self.style != Style::Fixed {
            // What comes to the last port from now on is nothing to this lookup.
            self.udp = None;
        }
        let sent = Instant::now();
        // What answers the lookup before comes to the same port.
        let before = self
            .last
            .replace(sent)
            .filter(|_| self.style == Style::Fixed);
        let mut why = Vec::new();
        for _ in 0..TRIES {
            let Err(bad) = self.attempt(world, &mut open, sent) else {
                return world.ledger.answered();
            };
            let wrong = match bad {
                Bad::Failed(failure) => {
                    let wrong = failure.to_string();
                    let astray = matches!(failure, Failure::WrongSource(_));
                    if !astray || self.may_go_astray(world, before.unwrap_or(sent)) {
                        if astray {
                            // A client takes no notice of it, and tries again when it has waited long enough.
                            world.pass(TIMEOUT);
                        }
                        why.push(wrong);
                        continue;
                    }
                    wrong
                }
                Bad::Nothing(nothing) => {
                    why.push(nothing);
                    continue;
                }
                Bad::Wrong(wrong) => wrong,
            };
            let what = format!("{}: {wrong}", self.describe(&name));
            return world.ledger.fault(what);
        }
        let what = format!("{} has failed: {}", self.describe(&name), why.join("; "));
        world.ledger.failed(&what, sent, self.excuses);
    }

    /// Whether the answers to what was sent since this moment may come from where nobody was asked. While kube-proxy's rules
    /// go or come, the kernel has no translation for a moment: for those who take the ordinary path, which are all while the
    /// agent is away, and new pods. To the node's own, whose sockets' true servers are in a map,
    /// while the maps begin anew. And from a link-local address's fallback, if it is an
    /// answer to no query, by its ID, or is on its way when the programs are removed; that is one a removal.
    fn may_go_astray(&mut self, world: &World<'_>, since: Instant) -> bool {
        let had = |cause| world.ledger.had(cause, since);
        let away = had(Cause::Away) || had(Cause::Late);
        let unseen = self.excuses.contains(&Cause::Unseen);
        if had(Cause::NoRules) && (away || unseen) {
            return true;
        }
        let nodes_own = self.excuses.contains(&Cause::Table);
        if nodes_own && had(Cause::NewLayout) {
            return true;
        }
        if !self.excuses.contains(&Cause::Detached) {
            return false;
        }
        let at_removal = world.ledger.removal(since).is_some_and(|number| {
            let (last, of) = *self.astray.get_or_insert((number, since));
            self.astray = Some((number, if last == number { of } else { since }));
            last != number || of == since
        });
        let nobody = had(Cause::Servers) || had(Cause::Ordinary) || had(Cause::Late);
        at_removal || away && nobody
    }

    fn describe(&self, name: &str) -> String {
        let from = self.client.netns().name();
        let to = self.client.server_address();
        format!("{name} from {from} to {to}, {:?}", self.style)
    }

    /// Asks what is open once; what is answered is taken out.
    fn attempt(
        &mut self,
        world: &World<'_>,
        open: &mut Vec<Query>,
        sent: Instant,
    ) -> Result<(), Bad> {
        match self.style {
            Style::Tcp => self.over_tcp(world, open, sent),
            Style::Fresh | Style::Pair | Style::Fixed => self.over_udp(world, open, sent),
        }
    }

    fn over_udp(
        &mut self,
        world: &World<'_>,
        open: &mut Vec<Query>,
        sent: Instant,
    ) -> Result<(), Bad> {
        let udp = match &mut self.udp {
            Some(udp) => udp,
            none => none.insert(self.client.udp(false).map_err(Bad::Failed)?),
        };
        for query in &*open {
            udp.send(&query.to_bytes()).map_err(Bad::Failed)?;
        }
        let end = Instant::now() + TIMEOUT;
        while !open.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Bad::Nothing("silence".to_owned()));
            }
            udp.set_timeout(left);
            let bytes = udp.receive().map_err(Bad::Failed)?;
            let message = Message::read(&bytes);
            let answered = open.iter().position(|query| {
                let of = |m: &Message| m.id == query.id && m.question == query.question();
                message.as_ref().is_some_and(of)
            });
            // Anything else is late, or a liar's: a client goes on waiting.
            if let (Some(answered), Some(message)) = (answered, message) {
                judge(world, &open[answered], &message, sent)?;
                open.remove(answered);
            }
        }
        Ok(())
    }

    fn over_tcp(
        &mut self,
        world: &World<'_>,
        open: &mut Vec<Query>,
        sent: Instant,
    ) -> Result<(), Bad> {
        let (mut tcp, used) = match self.tcp.take() {
            Some(kept) => kept,
            None => (self.client.tcp().map_err(Bad::Failed)?, 0),
        };
        while let Some(query) = open.pop() {
            let reply = match tcp.ask(&query) {
                Ok(reply) => reply,
                Err(failure) => {
                    open.push(query);
                    return Err(Bad::Failed(failure));
                }
            };
            if let Err(bad) = judge(world, &query, &reply.message, sent) {
                open.push(query);
                return Err(bad);
            }
        }
        if used + 1 < PER_CONNECTION {
            self.tcp = Some((tcp, used + 1));
        }
        Ok(())
    }
}

fn judge(world: &World<'_>, query: &Query, message: &Message, sent: Instant) -> Result<(), Bad> {
    // SERVFAIL and REFUSED: a client tries again.
    if let rcode @ (2 | 5) = message.rcode() {
        return Err(Bad::Nothing(format!("rcode {rcode}")));
    }
    let extra = match world.ledger.allows_stale(sent) {
        true => Duration::from_secs(zone::STALE.into()),
        false => Duration::ZERO,
    };
    let checked = zone::check(query, message, world.ledger.begun(), sent, extra);
    checked.map_err(Bad::Wrong)
}
