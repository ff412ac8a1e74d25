//! Lookups over TCP, some a connection.

use crate::client::Client;
use crate::load::Question;

/// Queries over one connection.
const PER_CONNECTION: u64 = 100;

/// What became of lookups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) asked: u64,
    pub(super) right: u64,
}

/// Asks one question after the other.
pub(super) fn ask(client: &Client, count: u64, question: &dyn Fn(u64) -> Question) -> Answered {
    let mut right = 0;
    let mut connection = None;
    for number in 0..count {
        if number % PER_CONNECTION == 0 {
            connection = client.tcp().ok();
        }
        // Other names than over UDP: what is in no cache there shall not be in it here.
        let question = question(number + (1 << 40));
        let reply = connection
            .as_mut()
            .and_then(|c| c.ask(&question.query).ok());
        let address = question.right.to_string();
        let is_right = |r: crate::Reply| r.message.answers.iter().any(|a| a.data == address);
        right += u64::from(reply.is_some_and(is_right));
    }
    Answered {
        asked: count,
        right,
    }
}
