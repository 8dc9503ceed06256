//! Where a path leads, known without an identity where that can be.
//!
//! The tree is the same for everybody but for the traits. So the walk is made once over what is always there; a trait
//! that the path names may be there or not, which is no matter as long as nothing else would come after it.

use super::{Query, Segment, Selector};

/// The first node that a path selects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// None, or an object: no value.
    Nothing,
    /// `$.environment.key`
    EnvironmentKey,
    /// `$.environment.name`
    EnvironmentName,
    /// `$.identity.identifier`
    Identifier,
    /// `$.identity.key`
    IdentityKey,
    /// This trait, or nothing where there is none.
    Trait(String),
    /// It hangs on the traits: wildcards and filters over them, or another node where a trait is missing.
    Depends,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Node {
    Root,
    Environment,
    Identity,
    Traits,
    Leaf(Target),
}

impl Node {
    /// The children that are always there, in document order.
    fn children(&self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Root => vec![("environment", Self::Environment), ("identity", Self::Identity)],
            Self::Environment => vec![
                ("key", Self::Leaf(Target::EnvironmentKey)),
                ("name", Self::Leaf(Target::EnvironmentName)),
            ],
            Self::Identity => vec![
                ("identifier", Self::Leaf(Target::Identifier)),
                ("key", Self::Leaf(Target::IdentityKey)),
                ("traits", Self::Traits),
            ],
            Self::Traits | Self::Leaf(_) => Vec::new(),
        }
    }

    fn target(&self) -> Target {
        match self {
            Self::Root | Self::Environment | Self::Identity | Self::Traits => Target::Nothing,
            Self::Leaf(target) => target.clone(),
        }
    }
}

/// What the walk has found so far.
enum Found {
    /// Nothing yet.
    None,
    /// A trait that may be there.
    Perhaps(String),
    /// The end of the walk.
    Decided(Target),
}

impl Query {
    /// Where the path leads.
    pub(crate) fn target(&self) -> Target {
        let mut walk = Walk(Found::None);
        walk.visit(&Node::Root, &self.segments);
        match walk.0 {
            Found::None => Target::Nothing,
            Found::Perhaps(key) => Target::Trait(key),
            Found::Decided(target) => target,
        }
    }
}

struct Walk(Found);

impl Walk {
    fn visit(&mut self, node: &Node, segments: &[Segment]) {
        let Some((segment, rest)) = segments.split_first() else { return self.select(node) };
        self.children(node, segment, rest);
        if segment.descends {
            for (_, child) in node.children() {
                if matches!(child, Node::Leaf(_)) || self.is_decided() {
                    continue;
                }
                self.visit(&child, segments);
            }
        }
    }

    fn children(&mut self, node: &Node, segment: &Segment, rest: &[Segment]) {
        for selector in &segment.selectors {
            if self.is_decided() {
                return;
            }
            match (selector, node) {
                (Selector::Element { .. }, _) | (_, Node::Leaf(_)) => {}
                (Selector::Filter(_), _) | (Selector::Wildcard, Node::Traits) => {
                    self.0 = Found::Decided(Target::Depends);
                }
                (Selector::Name(key), Node::Traits) if rest.is_empty() => self.name_trait(key),
                // A trait's value has no children.
                (Selector::Name(_), Node::Traits) => {}
                (Selector::Name(name), Node::Root | Node::Environment | Node::Identity) => {
                    let child = node.children().into_iter().find(|(key, _)| key == name);
                    if let Some((_, child)) = child {
                        self.visit(&child, rest);
                    }
                }
                (Selector::Wildcard, Node::Root | Node::Environment | Node::Identity) => {
                    for (_, child) in node.children() {
                        if !self.is_decided() {
                            self.visit(&child, rest);
                        }
                    }
                }
            }
        }
    }

    fn name_trait(&mut self, key: &str) {
        self.0 = match &self.0 {
            Found::None => Found::Perhaps(key.to_owned()),
            Found::Perhaps(other) if other == key => return,
            Found::Perhaps(_) | Found::Decided(_) => Found::Decided(Target::Depends),
        };
    }

    /// A node that is always there ends the walk.
    fn select(&mut self, node: &Node) {
        self.0 = match &self.0 {
            Found::None => Found::Decided(node.target()),
            Found::Perhaps(_) | Found::Decided(_) => Found::Decided(Target::Depends),
        };
    }

    fn is_decided(&self) -> bool {
        matches!(self.0, Found::Decided(_))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_lead_where_they_always_lead() {
        for (path, target) in [
            ("$.identity.identifier", Target::Identifier),
            ("$.identity.key", Target::IdentityKey),
            ("$.identity['key']", Target::IdentityKey),
            ("$.environment.name", Target::EnvironmentName),
            ("$.environment.*", Target::EnvironmentKey),
            ("$.identity.*", Target::Identifier),
            ("$.identity.traits.plan", Target::Trait("plan".into())),
            ("$.identity.traits['a.b']", Target::Trait("a.b".into())),
            ("$.*.traits.plan", Target::Trait("plan".into())),
            ("$..plan", Target::Trait("plan".into())),
            ("$..key", Target::EnvironmentKey),
            ("$..name", Target::EnvironmentName),
            ("$..identifier", Target::Identifier),
            ("$.identity", Target::Nothing),
            ("$..*", Target::Nothing),
            ("$.identity.traits.plan.x", Target::Nothing),
            ("$.identity.identifier.x", Target::Nothing),
            ("$.flags.x", Target::Nothing),
            ("$.identity.traits[0]", Target::Nothing),
            ("$.identity.traits.*", Target::Depends),
            ("$.identity.traits['a','b']", Target::Depends),
            ("$.identity.traits['a','a']", Target::Trait("a".into())),
            ("$.identity['traits','key'].plan", Target::Trait("plan".into())),
            ("$.identity.traits[?@ == 1]", Target::Depends),
            ("$[?@.key]", Target::Depends),
            ("$..['plan','key']", Target::EnvironmentKey),
        ] {
            assert_eq!(Query::compile(path).unwrap().target(), target, "{path}");
        }
    }
}
