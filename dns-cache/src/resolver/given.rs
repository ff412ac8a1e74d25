//! What a client is given.

use std::net::SocketAddr;
use std::sync::Arc;

use dns_cache_common::edns::ExtendedError;
use dns_cache_common::header::Flags;
use dns_cache_common::question::Client;
use dns_cache_common::reply::{Reply, Source, Stored};
use dns_cache_common::types::ede;

use super::entry::Entry;
use super::failures::Failure;
use super::usage::random;

/// An answer, or why there is none.
#[derive(Debug)]
pub(super) enum Given {
    /// An entry, where it comes from, and what is to be said about it.
    Entry(Arc<Entry>, Source, Option<ExtendedError>),
    /// The zone is blocked: this response code.
    Blocked(u16),
    /// No answer.
    Failure(Failure),
}

/// What a miss was given, and what it met before.
#[derive(Debug)]
pub(super) struct Waited {
    pub(super) given: Given,
    /// It waited for a query that was on its way already.
    pub(super) joined: bool,
    /// Why the upstreams gave nothing, or nothing in time; there may be a stale answer all the same.
    pub(super) failure: Option<Failure>,
}

impl Waited {
    /// Without a wait.
    pub(super) fn at_once(given: Given, failure: Option<Failure>) -> Self {
        Self {
            given,
            joined: false,
            failure,
        }
    }
}

impl Given {
    /// The server that it comes from.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        match self {
            Self::Entry(entry, ..) => entry.server(),
            Self::Blocked(_) | Self::Failure(_) => None,
        }
    }

    /// Whether it is an answer after its time.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Entry(_, Source::Stale { .. }, _))
    }

    /// Whether an upstream had more to say than this.
    pub(super) fn is_truncated(&self) -> bool {
        matches!(self, Self::Entry(entry, ..) if entry.stored().flags.has(Flags::TC))
    }

    /// One client's reply. The order of addresses is by chance, not one after the other: a client that asks
    /// for A and AAAA in turn would always get the same first A.
    pub(super) fn reply<'a>(&'a self, client: &Client, question: &'a [u8]) -> Reply<'a> {
        let (stored, source, error) = match self {
            Self::Entry(entry, source, error) => (entry.stored(), *source, *error),
            Self::Blocked(rcode) => (
                Stored::bare(*rcode),
                Source::Upstream,
                Some(ExtendedError {
                    code: ede::BLOCKED,
                    text: "",
                }),
            ),
            Self::Failure(failure) => (
                Stored::bare(failure.rcode()),
                Source::Upstream,
                Some(failure.explanation()),
            ),
        };
        Reply::explained(client, question, stored, source, error).turned(random())
    }
}
