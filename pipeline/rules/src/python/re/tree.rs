//! A pattern as a tree, as Python's parser leaves it.

/// A code point of a pattern. It may be half of a surrogate pair, which no text holds.
pub(super) type CodePoint = u32;

/// Parts one after another.
pub(super) type Sequence = Vec<Node>;

/// A part of a pattern.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    Literal(CodePoint),
    NotLiteral(CodePoint),
    /// `.`
    Any,
    Set {
        negated: bool,
        items: Vec<SetItem>,
    },
    At(At),
    Branch(Vec<Sequence>),
    Group {
        /// Its number, if it captures.
        capture: Option<usize>,
        add: Flags,
        remove: Flags,
        body: Sequence,
    },
    Atomic(Sequence),
    Repeat {
        kind: RepeatKind,
        min: u32,
        /// `None` is without limit.
        max: Option<u32>,
        body: Sequence,
    },
    Look {
        behind: bool,
        negated: bool,
        body: Sequence,
    },
    Reference(usize),
    Conditional {
        group: usize,
        yes: Sequence,
        no: Option<Sequence>,
    },
}

impl Node {
    /// Whether it is a group that neither captures nor changes flags.
    pub(super) fn is_transparent(&self) -> bool {
        matches!(self, Self::Group { capture: None, add, remove, .. } if add.is_empty() && remove.is_empty())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum SetItem {
    Literal(CodePoint),
    Range(CodePoint, CodePoint),
    Category { class: Class, negated: bool },
}

/// `\d`, `\s`, `\w`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Class {
    Digit,
    Space,
    Word,
}

/// A place between characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    /// `^`
    LineStart,
    /// `\A`
    TextStart,
    /// `$`
    LineEnd,
    /// `\Z`
    TextEnd,
    /// `\b`
    Boundary,
    /// `\B`
    NotBoundary,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RepeatKind {
    Greedy,
    Lazy,
    Possessive,
}

/// Flags as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const IGNORE_CASE: Self = Self(1);
    pub(super) const MULTILINE: Self = Self(2);
    pub(super) const DOT_ALL: Self = Self(4);
    pub(super) const VERBOSE: Self = Self(8);
    pub(super) const ASCII: Self = Self(16);
    pub(super) const UNICODE: Self = Self(32);
    /// A relic: compiles without repeats only.
    pub(super) const TEMPLATE: Self = Self(64);
    const TYPES: Self = Self(16 | 32);

    pub(super) fn of_letter(c: char) -> Option<Self> {
        Some(match c {
            'i' => Self::IGNORE_CASE,
            'm' => Self::MULTILINE,
            's' => Self::DOT_ALL,
            'x' => Self::VERBOSE,
            'a' => Self::ASCII,
            'u' => Self::UNICODE,
            't' => Self::TEMPLATE,
            _ => return None,
        })
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Which alphabet is asked for, if any.
    pub(super) fn types(self) -> Self {
        Self(self.0 & Self::TYPES.0)
    }

    /// The flags within a group that adds and removes some.
    pub(super) fn within(self, add: Self, remove: Self) -> Self {
        let kept = if add.types().is_empty() { self.0 } else { self.0 & !Self::TYPES.0 };
        Self((kept | add.0) & !remove.0)
    }
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) body: Sequence,
    pub(super) flags: Flags,
    /// The widths of the groups, by number; the first, the whole, has none.
    pub(super) group_widths: Vec<Option<Width>>,
}

/// Fewest and most characters that a part takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Width {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Width {
    const MAX: u64 = 1 << 32;

    fn plus(self, min: u64, max: u64) -> Self {
        Self {
            min: self.min.saturating_add(min).min(1 << 63),
            max: self.max.saturating_add(max).min(1 << 63),
        }
    }

    /// The width of parts in sequence. References are to groups that are closed, so their widths are known.
    pub(super) fn of(sequence: &[Node], groups: &[Option<Self>]) -> Self {
        sequence.iter().fold(Self { min: 0, max: 0 }, |sum, node| {
            let width = Self::of_node(node, groups);
            sum.plus(width.min, width.max)
        })
    }

    fn of_node(node: &Node, groups: &[Option<Self>]) -> Self {
        let nothing = Self { min: 0, max: 0 };
        match node {
            Node::Literal(_) | Node::NotLiteral(_) | Node::Any | Node::Set { .. } => Self { min: 1, max: 1 },
            Node::At(_) | Node::Look { .. } => nothing,
            Node::Branch(branches) => {
                branches.iter().map(|branch| Self::of(branch, groups)).reduce(Self::either).unwrap_or(nothing)
            }
            // Known since it was closed: asking again at every level above would take the square of the depth.
            Node::Group { capture: Some(group), body, .. } => {
                groups.get(*group).copied().flatten().unwrap_or_else(|| Self::of(body, groups))
            }
            Node::Group { body, .. } | Node::Atomic(body) => Self::of(body, groups),
            Node::Repeat { min, max, body, .. } => {
                let width = Self::of(body, groups);
                let most = match max {
                    None if width.max > 0 => 1 << 63,
                    None => 0,
                    Some(max) => width.max.saturating_mul(u64::from(*max)),
                };
                nothing.plus(width.min.saturating_mul(u64::from(*min)), most)
            }
            Node::Reference(group) => groups.get(*group).copied().flatten().unwrap_or(nothing),
            Node::Conditional { yes, no, .. } => {
                let no = no.as_ref().map_or(nothing, |no| Self::of(no, groups));
                Self::of(yes, groups).either(no)
            }
        }
    }

    fn either(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The one number of characters, if there is only one, and it isn't too large to look behind.
    pub(super) fn fixed(self) -> Option<u64> {
        (self.min == self.max && self.min < Self::MAX).then_some(self.min)
    }
}
