//! Walking the tree: depth first, in document order, and no further than asked.

use std::borrow::Cow;
use std::ops::ControlFlow;

use rollcall_model::Value;

use super::filter::Expression;
use super::{Segment, Selector};
use crate::context::{Context, Slot};
use crate::judge::Raised;
use crate::steps::{Exceeded, Steps};

/// Why a path isn't answered.
pub(super) const UNWALKED: &str =
    "a path looks into a list or an object beside the context's own, which this version doesn't walk";

/// A scalar of the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf<'a> {
    /// A trait's value.
    Value(&'a Value),
    /// An identifier, key or name.
    Text(&'a str),
}

/// A node of the tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Root,
    Environment,
    Identity,
    Traits,
    /// A list or an object that only a document has.
    Other,
    Leaf(Leaf<'a>),
}

impl<'a> Node<'a> {
    /// Whether it is an object.
    pub(super) fn is_container(self) -> bool {
        !matches!(self, Self::Leaf(_))
    }

    /// # Errors
    /// What only a document has isn't walked: the answer isn't known.
    fn walkable(self) -> Result<(), Raised> {
        match self {
            Self::Other => Err(Raised::unknown(UNWALKED)),
            Self::Root | Self::Environment | Self::Identity | Self::Traits | Self::Leaf(_) => Ok(()),
        }
    }

    /// The child of a name.
    pub(super) fn child(self, context: &Context<'a>, name: &str) -> Option<Self> {
        match self.slots(context) {
            Some(slots) => {
                let (_, slot) = slots.iter().find(|(known, _)| known == name)?;
                self.in_slot(context, name, slot)
            }
            None => self.own_child(context, name),
        }
    }

    /// What a document has under this node, if a document says.
    fn slots(self, context: &Context<'a>) -> Option<&'a [(Cow<'a, str>, Slot)]> {
        let tree = context.tree?;
        match self {
            Self::Root => Some(&tree.root),
            Self::Environment => Some(&tree.environment),
            Self::Identity => Some(&tree.identity),
            Self::Traits | Self::Other | Self::Leaf(_) => None,
        }
    }

    fn in_slot(self, context: &Context<'a>, name: &str, slot: &'a Slot) -> Option<Self> {
        match slot {
            Slot::Known => self.own_child(context, name),
            Slot::Scalar(value) => Some(Self::Leaf(Leaf::Value(value))),
            Slot::Other => Some(Self::Other),
        }
    }

    fn own_child(self, context: &Context<'a>, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Root, "environment") => Some(Self::Environment),
            (Self::Root, "identity") => Some(Self::Identity),
            (Self::Environment, "key") => Some(text(context.environment_key)),
            (Self::Environment, "name") => Some(text(context.environment_name)),
            (Self::Identity, "identifier") => Some(text(context.identifier)),
            (Self::Identity, "key") => Some(text(context.identity_key)),
            (Self::Identity, "traits") => Some(Self::Traits),
            (Self::Traits, key) => context.trait_value(key).map(|value| Self::Leaf(Leaf::Value(value))),
            (Self::Root | Self::Environment | Self::Identity | Self::Other | Self::Leaf(_), _) => None,
        }
    }

    /// Its children, in document order.
    fn children(self, context: &Context<'a>) -> Vec<(&'a str, Self)> {
        if let Some(slots) = self.slots(context) {
            let child = |(name, slot): &'a (Cow<'a, str>, Slot)| {
                self.in_slot(context, name, slot).map(|child| (&**name, child))
            };
            return slots.iter().filter_map(child).collect();
        }
        match self {
            Self::Root => vec![("environment", Self::Environment), ("identity", Self::Identity)],
            Self::Environment => {
                vec![("key", text(context.environment_key)), ("name", text(context.environment_name))]
            }
            Self::Identity => vec![
                ("identifier", text(context.identifier)),
                ("key", text(context.identity_key)),
                ("traits", Self::Traits),
            ],
            Self::Traits => {
                let leaf = |(key, value)| (key, Self::Leaf(Leaf::Value(value)));
                context.merged_traits().into_iter().map(leaf).collect()
            }
            Self::Other | Self::Leaf(_) => Vec::new(),
        }
    }
}

fn text(text: &str) -> Node<'_> {
    Node::Leaf(Leaf::Text(text))
}

/// Keys of a document that are compared with a name in the time of a step.
const SLOTS_PER_STEP: usize = 4;
/// What gathering one child costs, in steps.
const CHILD_STEPS: usize = 4;

/// Its children, in document order, for their price.
pub(super) fn children<'a>(
    context: &Context<'a>,
    steps: &Steps,
    node: Node<'a>,
) -> Result<Vec<(&'a str, Node<'a>)>, Raised> {
    let children = node.children(context);
    spend(steps, CHILD_STEPS * children.len())?;
    Ok(children)
}

/// Pays for a part of the walk.
pub(super) fn spend(steps: &Steps, count: usize) -> Result<(), Raised> {
    steps.take(count).map_err(|Exceeded(reason)| Raised::beyond_bound(format!("a path {reason}")))
}

/// What is done with each node found.
pub(super) type Found<'f, 'a> = &'f mut dyn FnMut(Node<'a>) -> ControlFlow<()>;

/// Hands on what the segments select from a node. `root` is what `$` means within filters.
pub(super) fn visit<'a>(
    context: &Context<'a>,
    steps: &Steps,
    root: Node<'a>,
    node: Node<'a>,
    segments: &[Segment],
    found: Found<'_, 'a>,
) -> Result<ControlFlow<()>, Raised> {
    let Some((segment, rest)) = segments.split_first() else { return Ok(found(node)) };
    node.walkable()?;
    if segment.descends {
        return descend(context, steps, root, node, segment, rest, found);
    }
    select(context, steps, root, node, segment, rest, found)
}

/// The selectors of a segment on one node, each in turn.
fn select<'a>(
    context: &Context<'a>,
    steps: &Steps,
    root: Node<'a>,
    node: Node<'a>,
    segment: &Segment,
    rest: &[Segment],
    found: Found<'_, 'a>,
) -> Result<ControlFlow<()>, Raised> {
    for selector in &segment.selectors {
        spend(steps, 1 + node.slots(context).map_or(0, <[_]>::len) / SLOTS_PER_STEP)?;
        let flow = match selector {
            Selector::Name(name) => match node.child(context, name) {
                Some(child) => visit(context, steps, root, child, rest, found)?,
                None => ControlFlow::Continue(()),
            },
            Selector::Element { .. } => ControlFlow::Continue(()),
            Selector::Wildcard => each(context, steps, root, node, None, rest, found)?,
            Selector::Filter(expression) => each(context, steps, root, node, Some(expression), rest, found)?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Every child of a node that passes the filter, if there is one.
fn each<'a>(
    context: &Context<'a>,
    steps: &Steps,
    root: Node<'a>,
    node: Node<'a>,
    filter: Option<&Expression>,
    rest: &[Segment],
    found: Found<'_, 'a>,
) -> Result<ControlFlow<()>, Raised> {
    for (_, child) in children(context, steps, node)? {
        if let Some(expression) = filter
            && !expression.test(context, steps, root, child)?
        {
            continue;
        }
        if visit(context, steps, root, child, rest, found)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A `..` segment: on the node itself, then on every container below.
fn descend<'a>(
    context: &Context<'a>,
    steps: &Steps,
    root: Node<'a>,
    node: Node<'a>,
    segment: &Segment,
    rest: &[Segment],
    found: Found<'_, 'a>,
) -> Result<ControlFlow<()>, Raised> {
    node.walkable()?;
    if select(context, steps, root, node, segment, rest, found)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    for (_, child) in children(context, steps, node)? {
        if child.is_container() && descend(context, steps, root, child, segment, rest, found)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
