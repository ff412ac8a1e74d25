//! `dns-cache cache`

use clap::{Args, Subcommand};

use super::ask::Ask;
use super::table::Table;
use super::units::{bytes, duration};
use crate::control::{Command, MOST_ENTRIES, Names, Response};
use crate::resolver::Listing;

/// Look into the agent's cache, or flush it
///
/// Names are absolute, with a trailing dot or without: search lists do not apply.
#[derive(Debug, Args)]
pub(super) struct CacheCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Ls(List),
    Get(Get),
    Flush(Flush),
}

/// List what is cached, what is given most often first
///
/// The flags are the question's DO and CD, and CUT for an answer that there is nothing below its name either.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache cache ls
  dns-cache cache ls svc.cluster.local --limit 20
  dns-cache cache ls --output json | jq '.entries[] | select(.rcode == \"NXDOMAIN\") | .name'")]
struct List {
    /// Only this name and names below it
    name: Option<String>,

    /// Show not more answers than this: those that are given most often
    #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = limit)]
    limit: usize,

    #[command(flatten)]
    agent: Ask,
}

/// Show the answers that are cached for one name, with their records
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache cache get kubernetes.default.svc.cluster.local
  dns-cache cache get kubernetes.default.svc.cluster.local AAAA --output json")]
struct Get {
    /// The name
    name: String,

    /// The record type, as in A, SRV or TYPE65 [default: all]
    #[arg(value_name = "TYPE")]
    rtype: Option<String>,

    #[command(flatten)]
    agent: Ask,
}

/// Take answers out of the cache: all, or those for a name and all names below it
///
/// When the command returns, nothing of what was cached is given any more. Answers that were on their
/// way from a server at that moment are not kept.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache cache flush                                            everything
  dns-cache cache flush svc.cluster.local                          a zone
  dns-cache cache flush web.default.svc.cluster.local              a name, and what is below it
  dns-cache cache flush --exact web.default.svc.cluster.local      a name alone")]
struct Flush {
    /// A name or zone: the answers for it and for all names below it
    name: Option<String>,

    /// Not those for the names below it
    #[arg(long, requires = "name")]
    exact: bool,

    #[command(flatten)]
    agent: Ask,
}

impl CacheCommand {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Action::Ls(command) => command.execute(),
            Action::Get(command) => command.execute(),
            Action::Flush(command) => command.execute(),
        }
    }
}

impl List {
    fn execute(self) -> anyhow::Result<()> {
        let names = Names {
            zone: self.name,
            name: None,
        };
        let command = Command::CacheList {
            names,
            rtype: None,
            limit: self.limit,
        };
        let listing = self.agent.agent(&command, listing)?;
        self.agent.print(&listing, list)
    }
}

impl Get {
    fn execute(self) -> anyhow::Result<()> {
        let names = Names {
            zone: None,
            name: Some(self.name),
        };
        let command = Command::CacheList {
            names,
            rtype: self.rtype,
            limit: MOST_ENTRIES,
        };
        let listing = self.agent.agent(&command, listing)?;
        self.agent.print(&listing, details)
    }
}

impl Flush {
    fn execute(self) -> anyhow::Result<()> {
        let (zone, name) = if self.exact {
            (None, self.name)
        } else {
            (self.name, None)
        };
        let command = Command::CacheFlush {
            names: Names { zone, name },
        };
        let flushed = self.agent.agent(&command, |response| match response {
            Response::Flushed(flushed) => Ok(flushed),
            other => Err(other),
        })?;
        self.agent.print(&flushed, |flushed| match flushed.entries {
            1 => format!(
                "flushed 1 answer, {} in the kernel\n",
                flushed.kernel_entries
            ),
            entries => format!(
                "flushed {entries} answers, {} in the kernel\n",
                flushed.kernel_entries
            ),
        })
    }
}

fn listing(response: Response) -> Result<Listing, Response> {
    match response {
        Response::Cache(listing) => Ok(listing),
        other => Err(other),
    }
}

/// A count, or that the answer is not there.
fn or_none(count: Option<u32>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn list(listing: &Listing) -> String {
    let mut text = table(listing);
    if text.is_empty() {
        text.push_str("nothing is cached for these names\n");
    }
    if listing.more > 0 {
        text.push_str(&format!(
            "\n{} more are there, given less often: name a zone, or raise --limit\n",
            listing.more
        ));
    }
    text
}

/// The table, and under it the records of each answer.
fn details(listing: &Listing) -> String {
    let mut text = list(listing);
    for entry in &listing.entries {
        if !entry.records.is_empty() {
            text.push_str(&format!("\n{} {}\n", entry.name, entry.rtype));
        }
        for record in &entry.records {
            text.push_str(&format!("  {record}\n"));
        }
    }
    text
}

fn table(listing: &Listing) -> String {
    let mut table = Table::new(&[
        "NAME",
        "TYPE",
        "FLAGS",
        "RCODE",
        ">TTL",
        ">AGE",
        ">SIZE",
        ">HITS",
        ">KERNEL HITS",
    ]);
    for entry in &listing.entries {
        let flags = [
            (entry.dnssec_ok, "DO"),
            (entry.checking_disabled, "CD"),
            (entry.cut, "CUT"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let flags: Vec<_> = flags.map(|(_, name)| *name).collect();
        let flags = match flags.is_empty() {
            true => "-".to_owned(),
            false => flags.join(","),
        };
        table.row(vec![
            entry.name.clone(),
            entry.rtype.clone(),
            flags,
            entry.rcode.clone(),
            duration(entry.ttl_seconds.into()),
            duration(entry.age_seconds.into()),
            bytes(entry.bytes),
            or_none(entry.hits),
            or_none(entry.kernel_hits),
        ]);
    }
    table.render()
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST_ENTRIES).contains(limit))
        .ok_or_else(|| format!("give a number from 1 to {MOST_ENTRIES}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Cached;

    fn entry(name: &str, records: &[&str]) -> Cached {
        Cached {
            name: name.to_owned(),
            rtype: "A".to_owned(),
            dnssec_ok: true,
            checking_disabled: false,
            rcode: "NOERROR".to_owned(),
            ttl_seconds: 25,
            age_seconds: 5,
            bytes: 700,
            hits: Some(12),
            kernel_hits: None,
            cut: false,
            records: records.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn answers_are_rows_and_their_records_follow() {
        let listing = Listing {
            entries: vec![entry("a.example", &["a.example. 25 IN A 192.0.2.1"])],
            more: 7,
        };
        let expected = "\
NAME       TYPE  FLAGS  RCODE    TTL  AGE       SIZE  HITS  KERNEL HITS
a.example  A     DO     NOERROR  25s   5s  700 bytes    12            -

7 more are there, given less often: name a zone, or raise --limit

a.example A
  a.example. 25 IN A 192.0.2.1
";
        assert_eq!(details(&listing), expected);
        let mut cut = entry("com.svc", &[]);
        (cut.cut, cut.kernel_hits) = (true, Some(3));
        let listing = Listing {
            entries: vec![cut],
            more: 0,
        };
        let row = "com.svc  A     DO,CUT  NOERROR  25s   5s  700 bytes    12            3\n";
        assert!(list(&listing).ends_with(row), "{}", list(&listing));
        assert_eq!(
            list(&Listing::default()),
            "nothing is cached for these names\n"
        );
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(limit("1"), Ok(1));
        for text in ["0", "-1", "100001", "x"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
