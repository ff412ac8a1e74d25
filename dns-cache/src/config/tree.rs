//! YAML text as a tree of nodes with positions.
//!
//! Built from the parser's events rather than by the library's loader, because the loader stops
//! at the first duplicate key, recurses as deep as the text says, and copies what aliases name.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::errors::Report;

/// The schema is four levels deep; more than this is a mistake, or an attack on the stack.
const MAX_DEPTH: usize = 16;

/// A line and a column, in characters, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The one document of a file; without a root if nothing but comments stands in it.
pub(super) struct Document {
    pub(super) root: Option<Node>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

/// What a node is. YAML's own idea of types (`no` as false, `10` as a number) is left out: a
/// value is what its text says to the key that it stands under.
#[derive(Debug)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the file's order, duplicate keys included.
    Mapping(Vec<(Node, Node)>),
    /// Something that was reported already.
    Refused,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The position of what follows `text`.
    pub(super) fn after(text: &str) -> Self {
        let line = text.matches('\n').count() + 1;
        let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }

    fn start_of(span: &Span) -> Self {
        // The parser counts columns from zero.
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

impl Kind {
    /// What this is, in words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
            Self::Refused => "something refused",
        }
    }
}

/// Parses a text of one document. `None` means that the text is no YAML; why is in the report.
pub(super) fn parse(text: &str, report: &mut Report) -> Option<Document> {
    // The parser takes U+0000 for the end of the text, and would leave the rest unread.
    if let Some(before) = text.find('\0').and_then(|at| text.get(..at)) {
        let at = Position::after(before);
        report.add_at(
            at,
            "",
            "a NUL character; configuration is plain text, remove it",
        );
        return None;
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, &span, report)?,
            Err(error) => {
                let marker = error.marker();
                let at = Position {
                    line: marker.line(),
                    column: marker.col() + 1,
                };
                let hint = quoting_hint(text, at.line);
                report.add_at(at, "", format!("not valid YAML: {}{hint}", error.info()));
                return None;
            }
        }
    }
    Some(Document { root: builder.root })
}

/// Three of the values that belong here have a meaning of their own in YAML unless quoted.
fn quoting_hint(text: &str, line: usize) -> &'static str {
    let line = line
        .checked_sub(1)
        .and_then(|n| text.lines().nth(n))
        .unwrap_or_default();
    if line.contains('[') && line.contains("]:") {
        "; put an IPv6 address with a port in quotes: \"[fd00::2]:53\""
    } else if line.contains('*') || line.contains('!') {
        "; put a value that starts with * or ! in quotes: \"*\""
    } else {
        ""
    }
}

/// Puts nodes together from events; a stack, not recursion, so that depth is ours to bound.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

/// A collection whose end has not been seen.
struct Open {
    at: Position,
    refused: bool,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Mapping {
        entries: Vec<(Node, Node)>,
        key: Option<Node>,
    },
}

impl Builder {
    /// `None` ends the parse: what is wrong was reported.
    fn take(&mut self, event: Event<'_>, span: &Span, report: &mut Report) -> Option<()> {
        let at = Position::start_of(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    report.add_at(
                        at,
                        "",
                        "a second YAML document (`---`); the file must hold one, remove the rest",
                    );
                    return None;
                }
            }
            Event::Alias(_) => {
                report.add_at(
                    at,
                    "",
                    "a YAML alias; write the value out, or put a value that starts with * in quotes",
                );
                self.put(Node {
                    at,
                    kind: Kind::Refused,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_anchor(anchor, at, report);
                let kind = if let Some(tag) = tag {
                    refuse_tag(&tag, at, report);
                    Kind::Refused
                } else if style == ScalarStyle::Plain && is_null(&text) {
                    // An implicit document that holds nothing but comments has no root at all.
                    Kind::Null
                } else {
                    Kind::Scalar(text.into_owned())
                };
                self.put(Node { at, kind });
            }
            Event::SequenceStart(anchor, tag) => {
                let items = Items::List(Vec::new());
                self.open(at, items, anchor, tag.as_deref(), report)?;
            }
            Event::MappingStart(anchor, tag) => {
                let items = Items::Mapping {
                    entries: Vec::new(),
                    key: None,
                };
                self.open(at, items, anchor, tag.as_deref(), report)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
        }
        Some(())
    }

    fn open(
        &mut self,
        at: Position,
        items: Items,
        anchor: usize,
        tag: Option<&saphyr_parser::Tag>,
        report: &mut Report,
    ) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            report.add_at(
                at,
                "",
                format!("nested more than {MAX_DEPTH} deep; no setting is, see the closing brackets above"),
            );
            return None;
        }
        refuse_anchor(anchor, at, report);
        if let Some(tag) = tag {
            refuse_tag(tag, at, report);
        }
        self.open.push(Open {
            at,
            refused: tag.is_some(),
            items,
        });
        Some(())
    }

    fn close(&mut self) {
        let Some(Open { at, refused, items }) = self.open.pop() else {
            return;
        };
        let kind = match items {
            _ if refused => Kind::Refused,
            Items::List(items) => Kind::List(items),
            Items::Mapping { entries, .. } => Kind::Mapping(entries),
        };
        self.put(Node { at, kind });
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Mapping { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn refuse_anchor(anchor: usize, at: Position, report: &mut Report) {
    // Anchors are numbered from one; zero is none.
    if anchor != 0 {
        report.add_at(
            at,
            "",
            "a YAML anchor (&…); write the value out where it is needed",
        );
    }
}

fn refuse_tag(tag: &saphyr_parser::Tag, at: Position, report: &mut Report) {
    let suffix = super::value::quoted(&tag.suffix);
    report.add_at(
        at,
        "",
        format!("a YAML tag (! before {suffix}); put a value that starts with ! in quotes"),
    );
}
