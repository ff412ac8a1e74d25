//! Reading mappings key by key: unknown and duplicate keys, wrong types.

use std::fmt::Display;

use super::errors::{Place, Report};
use super::tree::{Kind, Node, Position};
use super::value::quoted;

/// A value and whom to blame for it.
#[derive(Clone)]
pub(super) struct Placed<T> {
    pub(super) place: Place,
    /// The key's path; empty where the place says it already.
    pub(super) key: String,
    pub(super) value: T,
}

/// A scalar as it was given in the file or by a flag.
pub(super) type Given<'a> = Placed<&'a str>;

/// A list of scalars as it was given.
pub(super) type GivenList<'a> = Placed<Vec<Given<'a>>>;

/// A mapping whose keys are known. One that is not there has no keys.
pub(super) struct Section<'a> {
    path: String,
    /// Where the mapping stands; nowhere if the file has none.
    at: Option<Position>,
    /// Something else stands there, which was reported: no key can be said to be missing.
    broken: bool,
    entries: Vec<(&'a str, Position, &'a Node)>,
}

impl<T> Placed<T> {
    pub(super) fn blame(&self, message: impl Display, report: &mut Report) {
        let message = match self.key.as_str() {
            "" => message.to_string(),
            key => format!("{key}: {message}"),
        };
        report.add(self.place.clone(), message);
    }

    /// Another value in the same place.
    pub(super) fn with<U>(&self, value: U) -> Placed<U> {
        Placed {
            place: self.place.clone(),
            key: self.key.clone(),
            value,
        }
    }
}

impl<'a> Section<'a> {
    /// The file's root. A file of comments is as good as one with an empty mapping.
    pub(super) fn root(node: Option<&'a Node>, keys: &[&str], report: &mut Report) -> Self {
        match node {
            Some(node) if !matches!(node.kind, Kind::Null) => {
                Self::open(node, String::new(), keys, report)
            }
            _ => {
                let at = report.has_file().then_some(Position::START);
                Self {
                    path: String::new(),
                    at,
                    broken: false,
                    entries: Vec::new(),
                }
            }
        }
    }

    fn open(node: &'a Node, path: String, keys: &[&str], report: &mut Report) -> Self {
        let mut section = Self {
            path,
            at: Some(node.at),
            broken: true,
            entries: Vec::new(),
        };
        match &node.kind {
            Kind::Mapping(entries) => {
                section.broken = false;
                for (key, value) in entries {
                    section.take(key, value, keys, report);
                }
            }
            Kind::Refused => {}
            other => {
                let allowed = keys.join(", ");
                report.add_at(
                    node.at,
                    &section.path,
                    format!(
                        "{} found; give a mapping with the keys {allowed}",
                        other.name()
                    ),
                );
            }
        }
        section
    }

    fn take(&mut self, key: &'a Node, value: &'a Node, keys: &[&str], report: &mut Report) {
        let name = match &key.kind {
            Kind::Scalar(name) => name.as_str(),
            Kind::Refused => return,
            other => {
                let message = format!(
                    "{} found as a key; a key is one word, allowed are {}",
                    other.name(),
                    keys.join(", ")
                );
                return report.add_at(key.at, &self.path, message);
            }
        };
        if !keys.contains(&name) {
            let guess = closest(name, keys)
                .map(|guess| format!("did you mean {guess}? "))
                .unwrap_or_default();
            let message = format!(
                "unknown key {}; {guess}allowed are {}",
                quoted(name),
                keys.join(", ")
            );
            return report.add_at(key.at, &self.path, message);
        }
        if let Some((_, first, _)) = self.entries.iter().find(|(known, ..)| *known == name) {
            let message = format!(
                "given a second time; the first stands at line {}, remove one of them",
                first.line
            );
            return report.add_at(key.at, &self.path_of(name), message);
        }
        self.entries.push((name, key.at, value));
    }

    /// Where a key that is missing would have to stand.
    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether something was given under `key`, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.broken || self.entries.iter().any(|(name, ..)| *name == key)
    }

    /// The value under `key` if there is one of substance; a key with nothing under it is reported.
    fn value(&self, key: &str, wanted: &str, report: &mut Report) -> Option<&'a Node> {
        let (_, at, node) = self.entries.iter().find(|(name, ..)| *name == key)?;
        match node.kind {
            Kind::Refused => None,
            Kind::Null => {
                let message = format!("nothing given; give {wanted}, or remove the key");
                report.add_at(*at, &self.path_of(key), message);
                None
            }
            _ => Some(node),
        }
    }

    pub(super) fn scalar(&self, key: &str, report: &mut Report) -> Option<Given<'a>> {
        let node = self.value(key, "a value", report)?;
        given(node, self.path_of(key), report)
    }

    /// A list of scalars, or one scalar that stands for a list of one.
    pub(super) fn list(&self, key: &str, report: &mut Report) -> Option<GivenList<'a>> {
        let node = self.value(key, "a list", report)?;
        let path = self.path_of(key);
        let place = report.place(node.at);
        let nodes = match &node.kind {
            Kind::List(nodes) => nodes.as_slice(),
            Kind::Mapping(_) => {
                report.add_at(node.at, &path, "a mapping found; give a list, as in [a, b]");
                return None;
            }
            _ => {
                let items = given(node, path.clone(), report).into_iter().collect();
                return Some(Placed {
                    place,
                    key: path,
                    value: items,
                });
            }
        };
        let mut items = Vec::new();
        let mut wrong = false;
        for (n, node) in nodes.iter().enumerate() {
            match given(node, format!("{path}[{n}]"), report) {
                Some(item) => items.push(item),
                None => wrong = true,
            }
        }
        // What is left of a list with mistakes must not be taken for an empty one.
        if wrong && items.is_empty() {
            return None;
        }
        Some(Placed {
            place,
            key: path,
            value: items,
        })
    }

    /// The mapping under `key`, or one without keys.
    pub(super) fn section(&self, key: &str, keys: &[&str], report: &mut Report) -> Self {
        let path = self.path_of(key);
        match self.value(key, "a mapping", report) {
            Some(node) => Self::open(node, path, keys, report),
            None => Self {
                path,
                at: self.at,
                broken: self.has(key),
                entries: Vec::new(),
            },
        }
    }

    /// The list of mappings under `key`, or none.
    pub(super) fn sections(&self, key: &str, keys: &[&str], report: &mut Report) -> Vec<Self> {
        let Some(node) = self.value(key, "a list", report) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        let Kind::List(nodes) = &node.kind else {
            let message = format!(
                "{} found; give a list of mappings with the keys {}",
                node.kind.name(),
                keys.join(", ")
            );
            report.add_at(node.at, &path, message);
            return Vec::new();
        };
        let open = |(n, node)| Self::open(node, format!("{path}[{n}]"), keys, report);
        nodes.iter().enumerate().map(open).collect()
    }
}

fn given<'a>(node: &'a Node, key: String, report: &mut Report) -> Option<Given<'a>> {
    match &node.kind {
        Kind::Scalar(text) => Some(Placed {
            place: report.place(node.at),
            key,
            value: text,
        }),
        Kind::Refused => None,
        other => {
            let message = format!(
                "{} found; give a single value, in quotes if it has brackets",
                other.name()
            );
            report.add_at(node.at, &key, message);
            None
        }
    }
}

/// The known key that `name` was probably meant to be.
fn closest<'k>(name: &str, keys: &[&'k str]) -> Option<&'k str> {
    // `max_entries`, `max-entries` and `MaxEntries` are all one letter game away from camelCase.
    let plain = |key: &str| key.replace(['_', '-'], "").to_lowercase();
    let name = plain(name);
    // Longer than any key by far: nothing that a typing mistake makes.
    if name.len() > 40 {
        return None;
    }
    keys.iter()
        .map(|key| (strsim::osa_distance(&name, &plain(key)), *key))
        .filter(|(distance, key)| *distance <= 1 + key.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn closest_knows_typing_mistakes_and_other_spellings() {
        let keys = ["listen", "maxEntries", "resolvConf"];
        assert_eq!(closest("lisen", &keys), Some("listen"));
        assert_eq!(closest("lsiten", &keys), Some("listen"));
        assert_eq!(closest("max_entries", &keys), Some("maxEntries"));
        assert_eq!(closest("resolv-conf", &keys), Some("resolvConf"));
        assert_eq!(closest("banana", &keys), None);
    }
}
