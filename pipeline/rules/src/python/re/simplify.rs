//! What Python's parser makes simpler as it goes. None of it changes what a pattern means, but for letters beyond the
//! basic plane without regard to case, where a set and a single character fold differently.

use super::tree::{Node, Sequence, SetItem};

/// A group that neither captures nor changes flags, as its parts.
pub(super) fn unwrapped(node: Node) -> Sequence {
    if node.is_transparent()
        && let Node::Group { body, .. } = node
    {
        return body;
    }
    vec![node]
}

/// Alternatives as one sequence: what all begin with stands before, and single characters become a set, as in Python,
/// where a set and a branch fold case differently.
pub(super) fn joined(mut branches: Vec<Sequence>) -> Sequence {
    if branches.len() == 1 {
        return branches.pop().unwrap_or_default();
    }
    let mut sequence = Sequence::new();
    while let Some(first) =
        branches.first().and_then(|branch| branch.first()).filter(|node| is_plain(node)).cloned()
    {
        if !branches.iter().all(|branch| branch.first() == Some(&first)) {
            break;
        }
        for branch in &mut branches {
            branch.remove(0);
        }
        sequence.push(first);
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
pub(super) fn distinct(items: Vec<SetItem>) -> Vec<SetItem> {
    let mut kept: Vec<SetItem> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}
