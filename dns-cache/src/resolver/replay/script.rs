//! The format of the files.

use std::time::Duration;

use dns_cache_common::edns;
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::Transport;

use super::message::{Record, name};
use super::upstream::{Garbage, Rule, Says};
use super::{Wrong, duration};
use crate::presentation;

/// A file.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Settings that differ from the defaults.
    pub(super) config: String,
    /// The other servers of which it holds as well.
    pub(super) common: Vec<String>,
    /// What happens, with the line in which it stands.
    pub(super) steps: Vec<(usize, Step)>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// The clock moves to so long after the beginning.
    At(Duration),
    Upstream(Rule),
    Ask(Ask),
    /// What upstreams were asked since the last such line, sorted.
    Asked(Vec<String>),
}

/// A query of one or more clients.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) query: Vec<u8>,
    pub(super) transport: Transport,
    pub(super) clients: usize,
    udp_size: Option<u16>,
    pub(super) expected: Expected,
}

/// What each of them gets.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) summary: String,
    pub(super) counts: Option<[usize; 3]>,
    pub(super) records: Vec<String>,
    /// How long it takes.
    pub(super) took: Duration,
}

impl Ask {
    /// The longest reply that is allowed.
    pub(super) fn limit(&self) -> usize {
        match self.transport {
            Transport::Tcp => 65_535,
            Transport::Udp => usize::from(self.udp_size.unwrap_or(512).clamp(512, edns::UDP_SIZE)),
        }
    }
}

impl Script {
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        let mut script = Self::default();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((at, line)) = lines.next() {
            let mut block = vec![];
            while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with(' ')) {
                block.push(line);
            }
            let line = line.split(" #").next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            let step = match &words[..] {
                [] | ["#", ..] => continue,
                ["config"] => {
                    for line in block {
                        script.config += line.get(2..).unwrap_or_default();
                        script.config.push('\n');
                    }
                    continue;
                }
                ["common", servers @ ..] => {
                    script
                        .common
                        .extend(servers.iter().map(|name| (*name).to_owned()));
                    continue;
                }
                ["at", time] => duration(time).map(Step::At),
                ["upstream", question @ ..] => {
                    rule(&question.join(" "), &block).map(Step::Upstream)
                }
                ["ask", words @ ..] => ask(words, &block).map(Step::Ask),
                ["asked", "nothing"] => Some(Step::Asked(vec![])),
                ["asked", words @ ..] => {
                    let text = words.join(" ");
                    let mut asked: Vec<_> = text.split(", ").map(str::to_owned).collect();
                    asked.sort();
                    Some(Step::Asked(asked))
                }
                _ => None,
            };
            let step = step.ok_or((at + 1, format!("cannot be read: {line}")))?;
            script.steps.push((at + 1, step));
        }
        Ok(script)
    }
}

fn rule(question: &str, block: &[&str]) -> Option<Rule> {
    // CoreDNS: QR and RA; RD as it was asked.
    let (mut flags, mut records) = (0x8180, <[Vec<Record>; 3]>::default());
    let mut special = None;
    let mut after = Duration::ZERO;
    for line in block {
        let words: Vec<_> = line.split_whitespace().collect();
        match &words[..] {
            ["silent"] => special = Some(Says::Nothing),
            ["unreachable"] => special = Some(Says::Unreachable),
            ["garbage"] => special = Some(Says::Garbage(Garbage::Cut)),
            ["garbage", "counts"] => special = Some(Says::Garbage(Garbage::Counts)),
            ["garbage", "loop"] => special = Some(Says::Garbage(Garbage::Loop)),
            ["after", time] => after = duration(time)?,
            [
                section @ ("answer" | "authority" | "additional"),
                record @ ..,
            ] => {
                let section = ["answer", "authority", "additional"]
                    .iter()
                    .position(|name| name == section)?;
                // `N times`: as many records, whose last octet counts up.
                records[section].extend(repeated(record)?);
            }
            words => {
                for word in words {
                    flags |= match *word {
                        "aa" => 0x0400,
                        "ad" => 0x0020,
                        "tc" => 0x0200,
                        code => presentation_rcode(code)?,
                    };
                }
            }
        }
    }
    Some(Rule {
        question: question.to_owned(),
        says: special.unwrap_or(Says::Response(flags, records)),
        after,
    })
}

/// `OWNER TTL IN A 192.0.2.1-40`: forty addresses.
fn repeated(words: &[&str]) -> Option<Vec<Record>> {
    let Some((first, last)) = words.last()?.split_once('-').filter(|_| words[3] == "A") else {
        return Some(vec![Record::read(words)?]);
    };
    let (network, first) = first.rsplit_once('.')?;
    let (first, last) = (first.parse::<u8>().ok()?, last.parse::<u8>().ok()?);
    (first..=last)
        .map(|host| {
            let address = format!("{network}.{host}");
            let mut words = words.to_vec();
            *words.last_mut()? = &address;
            Record::read(&words)
        })
        .collect()
}

fn presentation_rcode(text: &str) -> Option<u16> {
    (0..=16).find(|code| presentation::rcode_text(*code) == text)
}

fn ask(words: &[&str], block: &[&str]) -> Option<Ask> {
    let mut flags = Flags::RD.0;
    let (mut transport, mut clients) = (Transport::Udp, 1);
    let (mut opt, mut options, mut udp_size) = (None, vec![], None);
    let mut class = 1u16;
    let mut raw = None;
    let [owner, rtype, rest @ ..] = words else {
        return None;
    };
    for word in rest {
        match word.split_once('=') {
            Some(("edns", size)) => udp_size = Some(size.parse().ok()?),
            Some(("version", version)) => {
                opt.get_or_insert(edns::opt(false, 0))[6] = version.parse().ok()?;
            }
            Some(("option", code)) => {
                options.extend(code.parse::<u16>().ok()?.to_be_bytes());
                options.extend([0, 2, 0xab, 0xcd]);
                opt.get_or_insert(edns::opt(false, 0));
            }
            Some(("opcode", code)) => flags |= code.parse::<u16>().ok()? << 11,
            Some(("class", number)) => class = number.parse().ok()?,
            Some(("questions", number)) => raw = number.parse::<u16>().ok(),
            Some(("clients", number)) => clients = number.parse().ok()?,
            None if *word == "tcp" => transport = Transport::Tcp,
            None if *word == "edns" => udp_size = Some(edns::UDP_SIZE),
            None if *word == "do" => {
                udp_size.get_or_insert(edns::UDP_SIZE);
                opt.get_or_insert(edns::opt(true, 0))[7] = 0x80;
            }
            None if *word == "zflag" => opt.get_or_insert(edns::opt(false, 0))[7] |= 0x40,
            None if *word == "norecurse" => flags &= !Flags::RD.0,
            None if *word == "response" => flags |= Flags::QR.0,
            None if *word == "cd" => flags |= Flags::CD.0,
            None if *word == "ad" => flags |= Flags::AD.0,
            _ => return None,
        }
    }
    if let Some(size) = udp_size {
        let opt = opt.get_or_insert(edns::opt(false, 0));
        opt[3..5].copy_from_slice(&u16::to_be_bytes(size));
    }
    if let Some(opt) = &mut opt {
        opt[9..].copy_from_slice(&(options.len() as u16).to_be_bytes());
        udp_size.get_or_insert(edns::UDP_SIZE);
    }
    let header = Header {
        id: 0x1234,
        flags: Flags(flags),
        questions: raw.unwrap_or(1),
        records: [0, 0, u16::from(opt.is_some())],
    };
    let question = [
        &name(owner)?[..],
        &presentation::rtype(rtype).ok()?.to_be_bytes(),
        &class.to_be_bytes(),
    ]
    .concat();
    let opt = opt.map_or(vec![], |opt| [&opt[..], &options].concat());
    Some(Ask {
        query: [&header.bytes()[..], &question, &opt].concat(),
        transport,
        clients,
        udp_size,
        expected: expected(block)?,
    })
}

fn expected(block: &[&str]) -> Option<Expected> {
    let mut expected = Expected::default();
    let mut lines = block.iter();
    let mut words: Vec<_> = lines.next()?.split_whitespace().collect();
    if let [.., "in", time] = words[..] {
        expected.took = duration(time)?;
        words.truncate(words.len() - 2);
    }
    words.get_mut(1..)?.sort_unstable();
    expected.summary = words.join(" ");
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["counts", counts @ ..] = &words[..] {
            let counts: Vec<_> = counts
                .iter()
                .map(|count| count.parse().ok())
                .collect::<Option<_>>()?;
            expected.counts = Some(counts.try_into().ok()?);
        } else {
            expected.records.push(words.join(" "));
        }
    }
    expected.records.sort();
    Some(expected)
}
