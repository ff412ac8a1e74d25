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
    /// Bytes that are no response.
    Garbage,
    /// Nothing, ever.
    Nothing,
    /// Connections are refused.
    Unreachable,
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

    /// Says what the file has for this question; REFUSED if it has nothing.
    pub(in super::super) async fn ask(&self, key: &KeyParts<'_>) -> Result<Bytes, Failure> {
        let question = question_text(key);
        let rule = {
            let rules = self.rules.lock().unwrap();
            let rule = rules.iter().find(|rule| rule.question == question);
            rule.or_else(|| rules.iter().find(|rule| rule.question == "*"))
                .cloned()
        };
        self.asked.lock().unwrap().push(question);
        let Some(rule) = rule else {
            return Ok(response(key, 0x8185, &Default::default()).into());
        };
        if !rule.after.is_zero() {
            sleep(rule.after).await;
        }
        match rule.says {
            Says::Response(flags, records) => Ok(response(key, flags, &records).into()),
            Says::Garbage => Ok(Bytes::from_static(&[0x80; 5])),
            Says::Nothing => std::future::pending().await,
            Says::Unreachable => Err(Failure::Unreachable),
        }
    }
}
