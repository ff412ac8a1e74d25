//! The servers of all zones, as a file has them speak.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dns_cache_common::question::KeyParts;
use tokio::time::sleep;

use super::message::{Record, question_text, response};
use crate::upstream::Failure;

/// What is said to a question from now on.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Name, type and `do` or `cd`, as [`question_text`] writes them; `*` is every question.
    pub(super) question: String,
    pub(super) says: Says,
    /// How long it takes.
    pub(super) after: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Says {
    /// A response: flags and rcode, records by section.
    Response(u16, [Vec<Record>; 3]),
    /// What begins as a response, and cannot be read.
    Garbage(Garbage),
    /// Nothing, ever.
    Nothing,
    /// Connections are refused.
    Unreachable,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Garbage {
    /// It ends within a record.
    Cut,
    /// A record less than the header says.
    Counts,
    /// A name that leads to itself.
    Loop,
}

impl Says {
    /// What is sent to who asks this; `None` if nothing is.
    pub(super) fn message(&self, key: &KeyParts<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Response(flags, records) => Some(response(key, *flags, records)),
            Self::Garbage(what) => Some(garbage(key, *what)),
            Self::Nothing | Self::Unreachable => None,
        }
    }
}

/// Header and question are as they should be; the one record is not.
fn garbage(key: &KeyParts<'_>, what: Garbage) -> Vec<u8> {
    let mut message = response(key, 0x8180, &Default::default());
    let owner_at = message.len();
    message[7] = 1;
    // A pointer to the question's name, A, IN, 30 s, four bytes.
    message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x01");
    match what {
        Garbage::Cut => message.truncate(message.len() - 2),
        Garbage::Counts => message[7] = 2,
        Garbage::Loop => {
            let pointer = 0xc000 | owner_at as u16;
            message[owner_at..owner_at + 2].copy_from_slice(&pointer.to_be_bytes());
        }
    }
    message
}

#[derive(Debug, Default)]
pub(in super::super) struct Scripted {
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    pub(super) fn learn(&self, rule: Rule) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|old| old.question != rule.question);
        rules.push(rule);
    }

    /// The questions since the last time, sorted.
    pub(super) fn take_asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }

    /// Whether there is something for exactly this question.
    pub(super) fn knows(&self, key: &KeyParts<'_>) -> bool {
        let question = question_text(key);
        let rules = self.rules.lock().unwrap();
        rules.iter().any(|rule| rule.question == question)
    }

    /// Notes that this was asked, and says what the file has for it: REFUSED if it has nothing.
    pub(super) fn rule(&self, key: &KeyParts<'_>) -> Rule {
        let question = question_text(key);
        self.asked.lock().unwrap().push(question.clone());
        let rules = self.rules.lock().unwrap();
        let rule = rules.iter().find(|rule| rule.question == question);
        let rule = rule.or_else(|| rules.iter().find(|rule| rule.question == "*"));
        rule.cloned().unwrap_or(Rule {
            question,
            says: Says::Response(0x8185, Default::default()),
            after: Duration::ZERO,
        })
    }

    /// Says what the file has for this question.
    pub(in super::super) async fn ask(&self, key: &KeyParts<'_>) -> Result<Bytes, Failure> {
        let rule = self.rule(key);
        if !rule.after.is_zero() {
            sleep(rule.after).await;
        }
        match rule.says.message(key) {
            Some(message) => Ok(message.into()),
            None if matches!(rule.says, Says::Unreachable) => Err(Failure::Unreachable),
            None => std::future::pending().await,
        }
    }
}
