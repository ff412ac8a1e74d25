//! A setting's value: read by its rule from file and flag, the flag before the file.

use super::errors::Report;
use super::overrides::Flag;
use super::section::{Given, GivenList, Placed, Section};

/// Each pair of a list's values is compared; no list comes near this.
const MOST_VALUES: usize = 1_000;

/// What was found for a setting.
pub(super) enum Setting<T> {
    /// Neither file nor flag gives it.
    Missing,
    /// It was given, and reported as wrong.
    Wrong,
    /// A value that keeps its rule.
    Valid(Placed<T>),
}

/// The rule of one value: the parsed form, or what was found and what is allowed.
pub(super) type Rule<T> = fn(&str) -> Result<T, String>;

impl<T> Setting<T> {
    /// The setting `key` of `section`, or what `flag` says. Both are checked if both are given.
    pub(super) fn scalar(
        section: &Section<'_>,
        key: &str,
        flag: Option<Flag<'_>>,
        rule: Rule<T>,
        report: &mut Report,
    ) -> Self {
        let file = section.has(key).then(|| section.scalar(key, report));
        let flag = flag.and_then(|flag| flag.scalar());
        flag_before_file(file, flag, |given| read(given, rule, report))
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// The value, if it is missing the default, if it is wrong none.
    pub(super) fn or_default(self, default: T) -> Option<T> {
        match self {
            Self::Missing => Some(default),
            Self::Wrong => None,
            Self::Valid(placed) => Some(placed.value),
        }
    }

    pub(super) fn valid(self) -> Option<T> {
        match self {
            Self::Missing | Self::Wrong => None,
            Self::Valid(placed) => Some(placed.value),
        }
    }
}

impl<T: PartialEq> Setting<Vec<Placed<T>>> {
    /// As [`Setting::scalar`], for a list without duplicates.
    pub(super) fn list(
        section: &Section<'_>,
        key: &str,
        flag: Option<Flag<'_>>,
        rule: Rule<T>,
        report: &mut Report,
    ) -> Self {
        let file = section.has(key).then(|| section.list(key, report));
        let flag = flag.and_then(|flag| flag.list());
        flag_before_file(file, flag, |given| read_list(given, rule, report))
    }

    /// The list's values alone.
    pub(super) fn values(self) -> Option<Vec<T>> {
        Some(self.valid()?.into_iter().map(|item| item.value).collect())
    }
}

/// Reads both, so that mistakes in either are reported. In the file it may be there and not usable.
fn flag_before_file<G, T>(
    file: Option<Option<G>>,
    flag: Option<G>,
    mut read: impl FnMut(Option<G>) -> Setting<T>,
) -> Setting<T> {
    let file = file.map_or(Setting::Missing, &mut read);
    flag.map_or(file, |given| read(Some(given)))
}

fn read<T>(given: Option<Given<'_>>, rule: Rule<T>, report: &mut Report) -> Setting<T> {
    let Some(given) = given else {
        return Setting::Wrong;
    };
    match rule(given.value) {
        Ok(value) => Setting::Valid(given.with(value)),
        Err(message) => {
            given.blame(message, report);
            Setting::Wrong
        }
    }
}

fn read_list<T: PartialEq>(
    given: Option<GivenList<'_>>,
    rule: Rule<T>,
    report: &mut Report,
) -> Setting<Vec<Placed<T>>> {
    let Some(given) = given else {
        return Setting::Wrong;
    };
    if given.value.is_empty() {
        given.blame("an empty list; give at least one value", report);
        return Setting::Wrong;
    }
    if given.value.len() > MOST_VALUES {
        let message = format!(
            "{} values; a list has at most {MOST_VALUES}",
            given.value.len()
        );
        given.blame(message, report);
        return Setting::Wrong;
    }
    let mut items: Vec<Placed<T>> = Vec::new();
    let mut wrong = false;
    for text in &given.value {
        match read(Some(text.with(text.value)), rule, report) {
            Setting::Valid(item) if items.iter().any(|other| other.value == item.value) => {
                let message = format!(
                    "{} is in the list already; remove it",
                    super::value::quoted(text.value)
                );
                item.blame(message, report);
                wrong = true;
            }
            Setting::Valid(item) => items.push(item),
            Setting::Missing | Setting::Wrong => wrong = true,
        }
    }
    if wrong {
        Setting::Wrong
    } else {
        Setting::Valid(given.with(items))
    }
}
