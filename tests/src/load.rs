//! Lookups at a fixed rate, each as a stub resolver does it: one socket, a time-out, the query again from the
//! same port.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::wire::{Query, flag};
use crate::zones;

/// A question of which the zone has one address record.
#[derive(Debug, Clone)]
pub struct Question {
    /// The query; its ID is the load's to give.
    pub query: Query,
    /// The record's address.
    pub right: IpAddr,
    /// Whether it may be in a cache.
    pub cached: bool,
}

impl Question {
    /// A service of which everybody asks; `number` modulo their count.
    #[must_use]
    pub fn service(number: u64) -> Self {
        let number = (number % u64::from(zones::BULK)) as u16;
        let (v4, _) = zones::service_addresses(number);
        Self::new(&zones::service(number), v4.into(), true)
    }

    /// A name that is asked for once: a wildcard answers it.
    #[must_use]
    pub fn unique(tag: &str, number: u64) -> Self {
        let name = format!("{tag}{number}.wild.types.svc.cluster.local");
        Self::new(&name, zones::WILD.into(), false)
    }

    fn new(name: &str, right: IpAddr, cached: bool) -> Self {
        let rtype = match right {
            IpAddr::V4(_) => crate::wire::rtype::A,
            IpAddr::V6(_) => crate::wire::rtype::AAAA,
        };
        Self {
            query: Query::new(name, rtype),
            right,
            cached,
        }
    }
}

/// What is asked, by the lookup's number.
pub type Questions = Box<dyn Fn(u64) -> Question + Send>;

/// How lookups are made.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Who is asked.
    pub server: SocketAddr,
    /// Lookups a second.
    pub rate: u32,
    /// How many lookups.
    pub count: u64,
    /// How long a try waits for its answer.
    pub timeout: Duration,
    /// How often a query is sent at most.
    pub attempts: u32,
    /// Whether each lookup has a port of its own. Otherwise ports are used again.
    pub fresh_ports: bool,
    /// Whether the kernel drops what comes from elsewhere. Otherwise it is counted.
    pub connected: bool,
}

impl Load {
    /// Lookups with glibc's defaults (`timeout:5 attempts:2`) over connected sockets.
    #[must_use]
    pub const fn new(server: SocketAddr, rate: u32, count: u64) -> Self {
        Self {
            server,
            rate,
            count,
            timeout: Duration::from_secs(5),
            attempts: 2,
            fresh_ports: false,
            connected: true,
        }
    }

    /// Starts it in a namespace, on a thread of its own.
    #[must_use]
    pub fn start(self, netns: &Arc<Netns>, questions: Questions) -> Running {
        let netns = Arc::clone(netns);
        let started = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&started);
        let begun = Instant::now();
        let thread = thread::spawn(move || {
            netns.run(|| Client::new(self, questions, begun, &progress).run())
        });
        Running {
            begun,
            started,
            thread,
        }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self, netns: &Arc<Netns>, questions: Questions) -> Outcome {
        self.start(netns, questions).end()
    }
}

/// Lookups that go on.
#[derive(Debug)]
pub struct Running {
    begun: Instant,
    started: Arc<AtomicU64>,
    thread: JoinHandle<Outcome>,
}

impl Running {
    /// How long it has run: the clock of [`Lookup::sent`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns when so many lookups have been started, or when it ended.
    pub fn wait_for(&self, lookups: u64) {
        while self.started.load(Ordering::Relaxed) < lookups && !self.thread.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(self) -> Outcome {
        match self.thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What became of a lookup.
#[derive(Debug, Clone, Copy)]
pub struct Lookup {
    /// When its first packet was sent, from the load's start.
    pub sent: Duration,
    /// From then to the right answer; `None` if it failed.
    pub took: Option<Duration>,
    /// Packets whose answer did not come in time.
    pub unanswered: u32,
    /// Whether the name may have been in a cache.
    pub cached: bool,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All lookups, in the order of their ends.
    pub lookups: Vec<Lookup>,
    /// Answers from elsewhere than was asked, where sockets were not connected.
    pub wrong_source: u64,
    /// Answers from the right place that were wrong; each ended its lookup.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Lookups without a right answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lookups.iter().filter(|l| l.took.is_none()).count() as u64
    }

    /// Lookups with a right answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.lookups.len() as u64 - self.failed()
    }

    /// Packets that were sent, and those that had no answer in time.
    #[must_use]
    pub fn packets(&self) -> (u64, u64) {
        let unanswered = self.lookups.iter().map(|l| u64::from(l.unanswered)).sum();
        (self.answered() + unanswered, unanswered)
    }

    /// The longest time of a lookup that was answered.
    #[must_use]
    pub fn worst(&self) -> Duration {
        let times = self.lookups.iter().filter_map(|l| l.took);
        times.max().unwrap_or_default()
    }
}

/// A load that was held up for longer goes on from there, and does not make up for it.
const MOST_LATE: Duration = Duration::from_millis(50);
/// What of the socket is read at most.
const LARGEST: usize = 4096;

struct Client<'a> {
    load: Load,
    questions: Questions,
    begun: Instant,
    started: &'a AtomicU64,
    epoll: Epoll,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Tries on their way, in the order in which their time ends.
    deadlines: VecDeque<(Duration, usize, u64, u32)>,
    open: u64,
    outcome: Outcome,
}

#[derive(Default)]
struct Slot {
    socket: Option<UdpSocket>,
    lookup: Option<Open>,
}

struct Open {
    number: u64,
    tries: u32,
    sent: Duration,
    query: Vec<u8>,
    right: IpAddr,
    cached: bool,
}

impl<'a> Client<'a> {
    fn new(load: Load, questions: Questions, begun: Instant, started: &'a AtomicU64) -> Self {
        // Lookups that wait for five seconds hold many sockets.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).or_panic("reading RLIMIT_NOFILE");
        setrlimit(Resource::RLIMIT_NOFILE, most, most).or_panic("raising RLIMIT_NOFILE");
        Self {
            load,
            questions,
            begun,
            started,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).or_panic("epoll"),
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: VecDeque::new(),
            open: 0,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self) -> Outcome {
        let gap = Duration::from_secs(1).div_f64(f64::from(self.load.rate));
        let mut first = self.begun.elapsed();
        let mut number = 0;
        while number < self.load.count || self.open > 0 {
            // After a time without a turn, all that is due by now would be more than the sockets hold.
            let due = first + gap.mul_f64(number as f64);
            let late = self.begun.elapsed().saturating_sub(due);
            if late > MOST_LATE {
                first += late;
            }
            // What is late already goes out at once: the rate does not depend on the answers.
            while number < self.load.count
                && first + gap.mul_f64(number as f64) <= self.begun.elapsed()
            {
                self.start(number);
                number += 1;
                self.started.store(number, Ordering::Relaxed);
                if number.is_multiple_of(64) {
                    self.receive(EpollTimeout::ZERO);
                }
            }
            self.receive(EpollTimeout::from(1u8));
            self.time_out();
        }
        self.outcome
    }

    fn start(&mut self, number: u64) {
        let question = (self.questions)(number);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        if self.slots[index].socket.is_none() {
            self.slots[index].socket = Some(self.socket(index));
        }
        self.slots[index].lookup = Some(Open {
            number,
            tries: 0,
            sent: self.begun.elapsed(),
            // IDs of one port differ for as long as a late answer may come.
            query: question.query.id(number as u16).to_bytes(),
            right: question.right,
            cached: question.cached,
        });
        self.open += 1;
        self.send(index);
    }

    fn socket(&self, index: usize) -> UdpSocket {
        let any: IpAddr = match self.load.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).or_panic("opening a socket");
        socket.set_nonblocking(true).or_panic("a socket's mode");
        if self.load.connected {
            let connected = socket.connect(self.load.server);
            connected.or_panic("connecting a socket");
        }
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&socket, event).or_panic("epoll_ctl");
        socket
    }

    /// Sends a lookup's query, for the first time or again.
    fn send(&mut self, index: usize) {
        let Slot {
            socket: Some(socket),
            lookup: Some(lookup),
        } = &mut self.slots[index]
        else {
            return;
        };
        lookup.tries += 1;
        let send = || match self.load.connected {
            true => socket.send(&lookup.query),
            false => socket.send_to(&lookup.query, self.load.server),
        };
        // The first may only tell that an earlier packet was refused.
        if send().is_err() {
            let _ = send();
        }
        let end = self.begun.elapsed() + self.load.timeout;
        let due = (end, index, lookup.number, lookup.tries);
        self.deadlines.push_back(due);
    }

    fn receive(&mut self, wait: EpollTimeout) {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, wait) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => panic!("epoll_wait: {error}"),
        };
        for event in &events[..count] {
            self.read(event.data() as usize);
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = [0; LARGEST];
        while let Some(socket) = &self.slots[index].socket {
            match socket.recv_from(&mut buffer) {
                Ok((_, source)) if source != self.load.server => self.outcome.wrong_source += 1,
                Ok((length, _)) => self.answer(index, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // ICMP says that nobody listens: the next try, as in glibc.
                Err(_) => {
                    if self.slots[index].lookup.is_some() {
                        self.again(index);
                    }
                }
            }
        }
    }

    fn answer(&mut self, index: usize, answer: &[u8]) {
        let Some(lookup) = &self.slots[index].lookup else {
            return;
        };
        let question = &lookup.query[12..];
        let same_id = answer.starts_with(&lookup.query[..2]);
        if !same_id || !answer.get(12..).is_some_and(|a| a.starts_with(question)) {
            // A late one, to the port's last lookup.
            return;
        }
        // SERVFAIL, NOTIMP, REFUSED: glibc goes on to the next try.
        if matches!(answer[3] & 0xf, 2 | 4 | 5) {
            return self.again(index);
        }
        let right = address(answer, question) == Some(lookup.right);
        if !right {
            let wrong = format!("{}: {answer:02x?}", question.escape_ascii());
            self.outcome.wrong.push(wrong);
        }
        self.finish(index, right);
    }

    fn time_out(&mut self) {
        let now = self.begun.elapsed();
        while let Some(&(end, index, number, tries)) = self.deadlines.front() {
            if end > now {
                return;
            }
            self.deadlines.pop_front();
            let lookup = self.slots[index].lookup.as_ref();
            // A try that was refused has been followed by another one already.
            let due = |l: &Open| (l.number, l.tries) == (number, tries);
            if lookup.is_some_and(due) {
                self.again(index);
            }
        }
    }

    fn again(&mut self, index: usize) {
        let lookup = self.slots[index].lookup.as_ref();
        if lookup.is_some_and(|l| l.tries < self.load.attempts) {
            self.send(index);
        } else {
            self.finish(index, false);
        }
    }

    fn finish(&mut self, index: usize, right: bool) {
        let slot = &mut self.slots[index];
        let Some(lookup) = slot.lookup.take() else {
            return;
        };
        let took = self.begun.elapsed() - lookup.sent;
        self.outcome.lookups.push(Lookup {
            sent: lookup.sent,
            took: right.then_some(took),
            unanswered: lookup.tries - u32::from(right),
            cached: lookup.cached,
        });
        if self.load.fresh_ports {
            slot.socket = None;
        }
        self.free.push(index);
        self.open -= 1;
    }
}

/// The address in the first record of a response to this question that is no error.
fn address(response: &[u8], question: &[u8]) -> Option<IpAddr> {
    let (header, rest) = response.split_at_checked(12)?;
    let flags = u16::from_be_bytes([header[2], header[3]]);
    if flags & flag::QR == 0 || flags & 0xf != 0 || header[6..8] == [0, 0] {
        return None;
    }
    let mut record = rest.strip_prefix(question)?;
    // The owner: labels, or a pointer to the question.
    loop {
        match *record.first()? {
            0 => break record = &record[1..],
            length @ 1..=63 => record = record.get(1 + usize::from(length)..)?,
            _ => break record = record.get(2..)?,
        }
    }
    match record.get(8..10)? {
        [0, 4] => Some(<[u8; 4]>::try_from(record.get(10..14)?).ok()?.into()),
        [0, 16] => Some(<[u8; 16]>::try_from(record.get(10..26)?).ok()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_is_read() {
        let query = Query::new("a.example", 1);
        let mut response = query.clone().flags(flag::QR).to_bytes();
        let question = query.question();
        assert_eq!(address(&response, &question), None);
        response[7] = 1;
        let with = |owner: &[u8]| {
            let rest = [0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1];
            [&response, owner, &rest].concat()
        };
        for owner in [&[0xc0, 12][..], &question[..question.len() - 4]] {
            let right = Some(Ipv4Addr::new(10, 0, 0, 1).into());
            assert_eq!(address(&with(owner), &question), right);
        }
        assert_eq!(address(&with(&[0xc0, 12])[..40], &question), None);
    }
}
