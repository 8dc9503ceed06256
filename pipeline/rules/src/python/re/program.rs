//! From a pattern's tree to the instructions that the machine runs.

use super::charset::{CharSet, Fold};
use super::tree::{At, CodePoint, Flags, Node, Parsed, RepeatKind, Sequence, Width};
use super::{PatternError, SIZE_MAX, TOO_LARGE};

/// The index of an instruction.
pub(super) type Address = usize;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// Groups, the whole not among them.
    pub(super) groups: usize,
    /// Repeats that count.
    pub(super) counters: usize,
}

/// What one character must be.
#[derive(Debug)]
pub(super) enum Test {
    /// Anything, a newline included.
    Any,
    /// Anything but a newline.
    NotNewline,
    Is(CodePoint),
    IsNot(CodePoint),
    Set(Box<CharSet>),
}

/// A place between characters, with the flags that matter to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    TextStart,
    LineStart,
    TextEnd,
    /// At the end, or before a newline at the end.
    LastLineEnd,
    LineEnd,
    Boundary {
        negated: bool,
        ascii: bool,
    },
}

/// A repeat of one character.
#[derive(Debug)]
pub(super) struct RepeatOne {
    pub(super) test: Test,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) kind: RepeatKind,
}

/// A repeat of anything else: its counter, its bounds, and where its body starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop {
    pub(super) counter: usize,
    pub(super) min: u32,
    /// `u32::MAX` is without limit.
    pub(super) max: u32,
    pub(super) body: Address,
}

/// An instruction. Unless it says otherwise, the machine goes on with the next one.
#[derive(Debug)]
pub(super) enum Instruction {
    One(Test),
    RepeatOne(RepeatOne),
    /// Tries the next one first, this one after.
    Branch(Address),
    Jump(Address),
    /// A group's start (even) or end (odd).
    Mark(usize),
    At(Place),
    /// Starts a counter, and goes on at the loop's end.
    Start {
        counter: usize,
        end: Address,
    },
    /// A loop's end: again as often as it can be, the next one after.
    Greedy(Loop),
    /// A loop's end: again as seldom as it can be.
    Lazy(Loop),
    /// A loop that never gives back; its body ends with `Done`, and past it `end` goes on.
    Possessive {
        min: u32,
        max: u32,
        end: Address,
    },
    /// A part that is matched once and for all, up to its `Done`.
    Atomic {
        end: Address,
    },
    /// A look ahead, or behind from that many characters before, up to its `Done`.
    Look {
        behind: u64,
        negated: bool,
        end: Address,
    },
    Reference {
        group: usize,
        fold: Fold,
    },
    /// Goes on here unless the group has matched.
    Unless {
        group: usize,
        no: Address,
    },
    /// The end of the pattern or of a part of its own.
    Done,
}

/// Compiles a tree.
pub(super) fn compile(parsed: &Parsed) -> Result<Program, PatternError> {
    let mut compiler =
        Compiler { instructions: Vec::new(), counters: 0, folded: 0, widths: &parsed.group_widths };
    compiler.sequence(&parsed.body, parsed.flags)?;
    compiler.instructions.push(Instruction::Done);
    Ok(Program {
        instructions: compiler.instructions,
        groups: parsed.group_widths.len() - 1,
        counters: compiler.counters,
    })
}

struct Compiler<'a> {
    instructions: Vec<Instruction>,
    counters: usize,
    /// Letters that sets have folded.
    folded: usize,
    widths: &'a [Option<Width>],
}

impl Compiler<'_> {
    fn here(&self) -> Address {
        self.instructions.len()
    }

    /// Keeps a place for an instruction whose target isn't known yet.
    fn reserve(&mut self) -> Address {
        self.instructions.push(Instruction::Done);
        self.here() - 1
    }

    fn sequence(&mut self, sequence: &Sequence, flags: Flags) -> Result<(), PatternError> {
        for node in sequence {
            self.node(node, flags)?;
            if self.folded > SIZE_MAX {
                return Err(TOO_LARGE);
            }
        }
        Ok(())
    }

    /// A part that runs by itself, after `reserve`d instruction `at`; gives where it ends.
    fn own_part(&mut self, body: &Sequence, flags: Flags) -> Result<Address, PatternError> {
        self.sequence(body, flags)?;
        self.instructions.push(Instruction::Done);
        Ok(self.here())
    }

    fn node(&mut self, node: &Node, flags: Flags) -> Result<(), PatternError> {
        match node {
            Node::Literal(_) | Node::NotLiteral(_) | Node::Any | Node::Set { .. } => {
                if let Some(test) = self.test_of(node, flags) {
                    self.instructions.push(Instruction::One(test));
                }
            }
            Node::At(at) => self.instructions.push(Instruction::At(place(*at, flags))),
            Node::Branch(branches) => self.branch(branches, flags)?,
            Node::Group { capture, add, remove, body } => {
                let flags = flags.within(*add, *remove);
                let mark = |end| capture.map(|group| Instruction::Mark((group - 1) * 2 + end));
                self.instructions.extend(mark(0));
                self.sequence(body, flags)?;
                self.instructions.extend(mark(1));
            }
            Node::Atomic(body) => {
                let at = self.reserve();
                let end = self.own_part(body, flags)?;
                self.instructions[at] = Instruction::Atomic { end };
            }
            Node::Repeat { kind, min, max, body } => self.repeat(*kind, *min, *max, body, flags)?,
            Node::Look { behind, negated, body } => {
                let behind = if *behind {
                    let width = Width::of(body, self.widths);
                    width.fixed().ok_or(PatternError("look-behind requires fixed-width pattern"))?
                } else {
                    0
                };
                let at = self.reserve();
                let end = self.own_part(body, flags)?;
                self.instructions[at] = Instruction::Look { behind, negated: *negated, end };
            }
            Node::Reference(group) => {
                self.instructions.push(Instruction::Reference { group: group - 1, fold: Fold::of(flags) });
            }
            Node::Conditional { group, yes, no } => {
                let at = self.reserve();
                self.sequence(yes, flags)?;
                let skip = no.as_ref().map(|no| (self.reserve(), no));
                self.instructions[at] = Instruction::Unless { group: group - 1, no: self.here() };
                if let Some((jump, no)) = skip {
                    self.sequence(no, flags)?;
                    self.instructions[jump] = Instruction::Jump(self.here());
                }
            }
        }
        Ok(())
    }

    fn branch(&mut self, branches: &[Sequence], flags: Flags) -> Result<(), PatternError> {
        let mut jumps = Vec::new();
        let Some((last, others)) = branches.split_last() else { return Ok(()) };
        for branch in others {
            let at = self.reserve();
            self.sequence(branch, flags)?;
            jumps.push(self.reserve());
            self.instructions[at] = Instruction::Branch(self.here());
        }
        self.sequence(last, flags)?;
        for jump in jumps {
            self.instructions[jump] = Instruction::Jump(self.here());
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        kind: RepeatKind,
        min: u32,
        max: Option<u32>,
        body: &Sequence,
        flags: Flags,
    ) -> Result<(), PatternError> {
        if flags.has(Flags::TEMPLATE) {
            return Err(PatternError("a template repeats nothing"));
        }
        let max = max.unwrap_or(u32::MAX);
        if let Some(test) = self.single(body, flags) {
            self.instructions.push(Instruction::RepeatOne(RepeatOne { test, min, max, kind }));
            return Ok(());
        }
        if kind == RepeatKind::Possessive {
            let at = self.reserve();
            let end = self.own_part(body, flags)?;
            self.instructions[at] = Instruction::Possessive { min, max, end };
            return Ok(());
        }
        let counter = self.counters;
        self.counters += 1;
        let start = self.reserve();
        self.sequence(body, flags)?;
        let end = self.here();
        self.instructions[start] = Instruction::Start { counter, end };
        let repeat = Loop { counter, min, max, body: start + 1 };
        self.instructions.push(match kind {
            RepeatKind::Greedy => Instruction::Greedy(repeat),
            RepeatKind::Lazy | RepeatKind::Possessive => Instruction::Lazy(repeat),
        });
        Ok(())
    }

    /// The test that a sequence is, if it is one character. As in Python, a group's flags are not applied within it.
    fn single(&mut self, sequence: &Sequence, flags: Flags) -> Option<Test> {
        match sequence.as_slice() {
            [Node::Group { capture: None, add, remove, body }] => {
                self.single(body, flags.within(*add, *remove))
            }
            [node] => self.test_of(node, flags),
            _ => None,
        }
    }

    fn test_of(&mut self, node: &Node, flags: Flags) -> Option<Test> {
        let letter = |code: CodePoint, negated| {
            CharSet::of_letter(code, negated, flags).map(|set| Test::Set(Box::new(set)))
        };
        match node {
            Node::Literal(code) => Some(letter(*code, false).unwrap_or(Test::Is(*code))),
            Node::NotLiteral(code) => Some(letter(*code, true).unwrap_or(Test::IsNot(*code))),
            Node::Any if flags.has(Flags::DOT_ALL) => Some(Test::Any),
            Node::Any => Some(Test::NotNewline),
            Node::Set { negated, items } => {
                let set = CharSet::of_items(items, *negated, flags);
                self.folded += set.folded;
                Some(Test::Set(Box::new(set)))
            }
            Node::At(_)
            | Node::Branch(_)
            | Node::Group { .. }
            | Node::Atomic(_)
            | Node::Repeat { .. }
            | Node::Look { .. }
            | Node::Reference(_)
            | Node::Conditional { .. } => None,
        }
    }
}

fn place(at: At, flags: Flags) -> Place {
    let ascii = !flags.has(Flags::UNICODE);
    match at {
        At::LineStart if flags.has(Flags::MULTILINE) => Place::LineStart,
        At::LineStart | At::TextStart => Place::TextStart,
        At::LineEnd if flags.has(Flags::MULTILINE) => Place::LineEnd,
        At::LineEnd => Place::LastLineEnd,
        At::TextEnd => Place::TextEnd,
        At::Boundary => Place::Boundary { negated: false, ascii },
        At::NotBoundary => Place::Boundary { negated: true, ascii },
    }
}
