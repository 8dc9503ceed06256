//! JSONPath over an identity's context, as the reference's package `jsonpath-rfc9535` reads and walks it.
//!
//! ```text
//! text ──lex──▶ tokens ──parse──▶ Query ──walk(Context)──▶ nodes in document order; the first one counts
//!                 └ a name, not a path (Syntax) · raises (types, index ranges)
//! ```
//!
//! An own module, because what isn't a path is a trait's name: where that package is laxer or stricter than RFC 9535,
//! or raises something that the reference doesn't catch, membership hangs on it. The tree that it walks is:
//!
//! ```text
//! $ ─┬ environment ─┬ key
//!    │              └ name
//!    └ identity ────┬ identifier
//!                   ├ key
//!                   └ traits ─── one scalar for each trait, in key order
//! ```

mod filter;
mod lex;
mod parse;
mod parse_filter;
mod target;
mod walk;

use std::ops::ControlFlow;

use crate::context::Context;
use crate::judge::Raised;
use crate::steps::Steps;
pub(crate) use target::Target;
pub(crate) use walk::Leaf;
use walk::Node;

/// Deeper nesting of filters nears Python's recursion limit, and no rule has it.
const FILTER_DEPTH_MAX: usize = 200;

/// Why text is no usable path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CompileError {
    /// It isn't a path: the reference takes it for a trait's name.
    Syntax,
    /// The reference raises, or this version doesn't know.
    Raises(String),
}

/// A compiled path.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Query {
    segments: Vec<Segment>,
}

/// One step.
#[derive(Clone, PartialEq, Debug)]
struct Segment {
    /// `..`: from every container below, parents first.
    descends: bool,
    selectors: Vec<Selector>,
}

#[derive(Clone, PartialEq, Debug)]
enum Selector {
    Name(String),
    Wildcard,
    /// An index or a slice: there are no arrays in the tree, so it selects nothing.
    Element {
        /// An index, which makes a singular query, unlike a slice.
        single: bool,
    },
    Filter(filter::Expression),
}

impl Query {
    /// Reads a path.
    pub(crate) fn compile(text: &str) -> Result<Self, CompileError> {
        let tokens = lex::tokens(text)?;
        parse::query(tokens)
    }

    /// Whether it can select at most one node by its form.
    fn is_singular(&self) -> bool {
        self.segments.iter().all(|segment| {
            !segment.descends
                && matches!(
                    segment.selectors.as_slice(),
                    [Selector::Name(_) | Selector::Element { single: true }]
                )
        })
    }

    /// Why a segment that uses it is unsupported, if so.
    pub(crate) fn unsupported(&self) -> Option<String> {
        if let Some(Segment { descends: false, selectors }) = self.segments.first()
            && selectors.iter().any(|selector| matches!(selector, Selector::Name(name) if name == "flags"))
        {
            return Some("this version doesn't know conditions on other flags".to_owned());
        }
        self.filters().find_map(filter::Expression::may_raise)
    }

    fn filters(&self) -> impl Iterator<Item = &filter::Expression> {
        self.segments.iter().flat_map(|segment| &segment.selectors).filter_map(|selector| match selector {
            Selector::Filter(expression) => Some(expression),
            Selector::Name(_) | Selector::Wildcard | Selector::Element { .. } => None,
        })
    }

    /// The first node, if it is a scalar.
    ///
    /// # Errors
    /// Where the reference raises on the way to it.
    pub(crate) fn first_leaf<'a>(
        &self,
        context: &Context<'a>,
        steps: &Steps,
    ) -> Result<Option<Leaf<'a>>, Raised> {
        let mut first = None;
        let _: ControlFlow<()> =
            walk::visit(context, steps, Node::Root, Node::Root, &self.segments, &mut |node| {
                first = Some(node);
                ControlFlow::Break(())
            })?;
        Ok(match first {
            Some(Node::Leaf(leaf)) => Some(leaf),
            Some(Node::Root | Node::Environment | Node::Identity | Node::Traits | Node::Other) | None => None,
        })
    }
}
