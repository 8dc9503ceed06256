//! What Python's parser makes simpler as it goes. None of it changes what a pattern means, but for letters beyond the
//! basic plane without regard to case, where a set and a single character fold differently.

use std::collections::HashSet;

use super::tree::{Node, Sequence, SetItem};

/// A sequence whose groups that neither capture nor change flags are their parts.
pub(super) fn unwrapped(sequence: Sequence) -> Sequence {
    let mut parts = Sequence::with_capacity(sequence.len());
    for node in sequence {
        if node.is_transparent()
            && let Node::Group { body, .. } = node
        {
            parts.extend(body);
        } else {
            parts.push(node);
        }
    }
    parts
}

/// Alternatives as one sequence: what all begin with stands before, and single characters become a set, as in Python,
/// where a set and a branch fold case differently.
pub(super) fn joined(mut branches: Vec<Sequence>) -> Sequence {
    if branches.len() == 1 {
        return branches.pop().unwrap_or_default();
    }
    let mut sequence = Sequence::new();
    let shared = shared_start(&branches);
    for branch in &mut branches {
        sequence = branch.drain(..shared).collect();
    }
    let mut items = Vec::new();
    for branch in &branches {
        match branch.as_slice() {
            [Node::Literal(code)] => items.push(SetItem::Literal(*code)),
            [Node::Set { negated: false, items: more }] => items.extend_from_slice(more),
            _ => {
                sequence.push(Node::Branch(branches));
                return sequence;
            }
        }
    }
    sequence.push(Node::Set { negated: false, items: distinct(items) });
    sequence
}

/// How many parts all begin with.
fn shared_start(branches: &[Sequence]) -> usize {
    let Some((first, others)) = branches.split_first() else { return 0 };
    first
        .iter()
        .enumerate()
        .take_while(|(at, node)| is_plain(node) && others.iter().all(|branch| branch.get(*at) == Some(*node)))
        .count()
}

/// Whether two of it are the same by their form: nothing with a pattern within.
fn is_plain(node: &Node) -> bool {
    match node {
        Node::Literal(_)
        | Node::NotLiteral(_)
        | Node::Any
        | Node::Set { .. }
        | Node::At(_)
        | Node::Reference(_) => true,
        Node::Branch(_)
        | Node::Group { .. }
        | Node::Atomic(_)
        | Node::Repeat { .. }
        | Node::Look { .. }
        | Node::Conditional { .. } => false,
    }
}

/// Each item once, in order.
pub(super) fn distinct(mut items: Vec<SetItem>) -> Vec<SetItem> {
    let mut seen = HashSet::with_capacity(items.len());
    items.retain(|item| seen.insert(*item));
    items
}
