//! Text of a topology.yaml → a tree that knows the line and column of everything in it.
//!
//! A deserialiser stops at the first fault; the reader wants them all, so it walks this tree instead. `${NAME}` is
//! not YAML inside `{ … }`, and what a variable holds must never be read as YAML: before parsing, the signs of each
//! reference become characters that YAML takes as text, one for one, so that columns stay what they were.

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span};

use super::ConfigFault;

/// Stands for the `${` of a reference while YAML is parsed. From the private use area: nobody's text.
pub(super) const REFERENCE_OPEN: &str = "\u{E000}\u{E001}";
/// Stands for its `}`.
pub(super) const REFERENCE_CLOSE: char = '\u{E002}';
/// More nesting than any topology needs.
const NESTING_MAX: usize = 32;

/// A place in the file, both from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl At {
    /// The start of the file.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct NodeKey {
    pub(super) at: At,
    pub(super) text: String,
}

/// A node of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: NodeValue,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum NodeValue {
    /// Text; `plain` without quotes.
    Scalar { text: String, plain: bool },
    /// Keys and values, in the order of the file.
    Map(Vec<(NodeKey, Node)>),
    /// A list; no key of a topology takes one.
    List,
    /// A YAML alias; not taken, so that what a line says is what stands there.
    Alias,
}

impl Node {
    /// Whether nothing was written.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, NodeValue::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Reads the first document; `None` when the file is empty.
pub(super) fn parse(text: &str) -> Result<Option<Node>, ConfigFault> {
    let text = hide_references(text);
    // Comments are no data; leaving them out also bounds the parser's buffers.
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { events: Parser::new_from_str_with_options(&text, options), depth: 0 };
    let root = builder.root()?;
    Ok(root.filter(|node| !node.is_null()))
}

/// `${NAME}` → open NAME close. Anything else that starts with `${` stays and is reported where it is read.
fn hide_references(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        hidden.push_str(before);
        let name = reference[2..].split('}').next().unwrap_or("");
        if is_variable_name(name) && reference[2 + name.len()..].starts_with('}') {
            hidden.push_str(REFERENCE_OPEN);
            hidden.push_str(name);
            hidden.push(REFERENCE_CLOSE);
            rest = &reference[name.len() + 3..];
        } else {
            hidden.push_str("${");
            rest = &reference[2..];
        }
    }
    hidden.push_str(rest);
    hidden
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Builder<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    depth: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, At)>, ConfigFault> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, At::of(&span)))),
            Some(Err(error)) => Err(syntax(&error)),
        }
    }

    fn root(&mut self) -> Result<Option<Node>, ConfigFault> {
        while let Some((event, at)) = self.next()? {
            if event.is_node() {
                return self.node(event, at).map(Some);
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'t>, at: At) -> Result<Node, ConfigFault> {
        let value = if let Event::Scalar(text, style, _, _) = event {
            NodeValue::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
        } else if let Event::MappingStart(..) = event {
            NodeValue::Map(self.nested(at, Self::entries)?)
        } else if let Event::SequenceStart(..) = event {
            self.nested(at, Self::list)?
        } else {
            // What else stands where a node is wanted.
            NodeValue::Alias
        };
        Ok(Node { at, value })
    }

    fn nested<T>(
        &mut self,
        at: At,
        read: impl FnOnce(&mut Self) -> Result<T, ConfigFault>,
    ) -> Result<T, ConfigFault> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(ConfigFault::at(at, "", format!("nested deeper than {NESTING_MAX} levels")));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn entries(&mut self) -> Result<Vec<(NodeKey, Node)>, ConfigFault> {
        let mut entries = Vec::new();
        while let Some((event, at)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            if !event.is_node() {
                continue;
            }
            let NodeValue::Scalar { text, .. } = self.node(event, at)?.value else {
                return Err(ConfigFault::at(
                    at,
                    "",
                    "a key is a plain word here, not a list, a mapping or an alias",
                ));
            };
            while let Some((event, at_value)) = self.next()? {
                if event.is_node() {
                    let value = self.node(event, at_value)?;
                    entries.push((NodeKey { at, text }, value));
                    break;
                }
            }
        }
        Ok(entries)
    }

    fn list(&mut self) -> Result<NodeValue, ConfigFault> {
        while let Some((event, at)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            if event.is_node() {
                self.node(event, at)?;
            }
        }
        Ok(NodeValue::List)
    }
}

fn syntax(error: &ScanError) -> ConfigFault {
    let marker = error.marker();
    let at = At { line: marker.line().max(1), column: marker.col() + 1 };
    ConfigFault::at(at, "", format!("not YAML: {}", error.info()))
}
