//! The backtracking machine.
//!
//! One stack holds both what to try next and what to undo on the way back, so that going back to a choice restores the
//! groups and counters as they were when it was made. Parts that are matched once and for all (look-arounds, atomic
//! groups, possessive repeats) run on the same stack; when they are done their choices are dropped, their undos kept.

use super::charset::{Fold, is_word};
use super::program::{Address, Instruction, Loop, Place, Program, RepeatOne, Test};
use super::tree::RepeatKind;
use crate::steps::{Exceeded, STEPS, Steps};

/// Characters passed in one go for which one step is charged: as many as take about as long as a step.
const PASSED_PER_STEP: usize = 16;
/// The same where each is looked up in a set.
const LOOKED_UP_PER_STEP: usize = 4;
/// Entries on the stack, at most: some ten megabytes. A repeat needs a few for each character of the text.
const STACK_MAX: usize = 1 << 18;
/// The stack is full.
const STACK: Exceeded = Exceeded("needs more than 262144 places to go back to");

/// Whether the program matches at the start of the text.
pub(super) fn matches(program: &Program, text: &str, steps: &Steps) -> Result<bool, Exceeded> {
    steps.take((program.groups + program.counters) / PASSED_PER_STEP)?;
    let mut machine = Machine {
        program,
        text,
        marks: vec![None; program.groups * 2],
        counters: vec![Counter::default(); program.counters],
        stack: Vec::new(),
        steps_left: steps.left(),
    };
    let end = machine.run(0, 0);
    steps.set_left(machine.steps_left);
    Ok(end?.is_some())
}

/// A loop's state.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    /// Rounds begun.
    rounds: u32,
    /// Where the last round beyond the fewest began: a round that takes nothing is the last.
    last_start: Option<usize>,
}

enum Entry {
    /// Go on here.
    Choice { address: Address, at: usize },
    /// A greedy repeat of one character: give one back, down to `lowest`.
    GiveBack { address: Address, lowest: usize, at: usize },
    /// A lazy repeat of one character, at this address: take one more, up to `left` times.
    TakeMore { address: Address, at: usize, left: u32 },
    /// A lazy loop, at this address: another round.
    Round { address: Address, at: usize },
    /// Undo a mark.
    Mark { index: usize, was: Option<usize> },
    /// Undo a counter.
    Counter { index: usize, was: Counter },
}

struct Machine<'a> {
    program: &'a Program,
    text: &'a str,
    /// Where each group started and ended last.
    marks: Vec<Option<usize>>,
    counters: Vec<Counter>,
    stack: Vec<Entry>,
    steps_left: u32,
}

/// Where to go on, or back to the last choice.
type Next = Option<(Address, usize)>;

impl<'a> Machine<'a> {
    /// Runs from an address to its `Done`: where the text stands then, if it gets there.
    fn run(&mut self, address: Address, at: usize) -> Result<Option<usize>, Exceeded> {
        let floor = self.stack.len();
        let program = self.program;
        let (mut address, mut at) = (address, at);
        loop {
            self.charge(1)?;
            if self.stack.len() > STACK_MAX {
                return Err(STACK);
            }
            let instruction = &program.instructions[address];
            if let Instruction::Done = instruction {
                return Ok(Some(at));
            }
            let next = match self.step(instruction, address, at)? {
                Some(next) => Some(next),
                None => self.back(floor)?,
            };
            let Some(next) = next else { return Ok(None) };
            (address, at) = next;
        }
    }

    fn charge(&mut self, steps: usize) -> Result<(), Exceeded> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.steps_left.checked_sub(steps));
        self.steps_left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(STEPS)
    }

    fn step(&mut self, instruction: &'a Instruction, address: Address, at: usize) -> Result<Next, Exceeded> {
        Ok(match instruction {
            Instruction::One(test) => self.one(test, at).map(|at| (address + 1, at)),
            Instruction::RepeatOne(repeat) => return self.repeat_one(repeat, address, at),
            Instruction::Branch(other) => {
                self.stack.push(Entry::Choice { address: *other, at });
                Some((address + 1, at))
            }
            Instruction::Jump(target) => Some((*target, at)),
            Instruction::Mark(index) => {
                self.stack.push(Entry::Mark { index: *index, was: self.marks[*index] });
                self.marks[*index] = Some(at);
                Some((address + 1, at))
            }
            Instruction::At(place) => self.is_at(*place, at).then_some((address + 1, at)),
            Instruction::Start { counter, end } => {
                self.set_counter(*counter, Counter::default());
                Some((*end, at))
            }
            Instruction::Greedy(repeat) => Some(self.greedy(repeat, address, at)),
            Instruction::Lazy(repeat) => Some(self.lazy(repeat, address, at)),
            Instruction::Possessive { min, max, end } => {
                self.possessive(*min, *max, address + 1, at)?.map(|at| (*end, at))
            }
            Instruction::Atomic { end } => self.once(address + 1, at)?.map(|at| (*end, at)),
            Instruction::Look { behind, negated, end } => {
                // No text is longer than its bytes, so that is the most that is walked back.
                let walked = usize::try_from(*behind).unwrap_or(usize::MAX).min(at);
                self.charge(walked / LOOKED_UP_PER_STEP)?;
                let found = match self.before(at, *behind) {
                    Some(start) if *negated => self.found_and_undone(address + 1, start)?,
                    Some(start) => self.once(address + 1, start)?.is_some(),
                    None => false,
                };
                (found != *negated).then_some((*end, at))
            }
            Instruction::Reference { group, fold } => {
                self.reference(*group, *fold, at)?.map(|at| (address + 1, at))
            }
            Instruction::Unless { group, no } => {
                Some((if self.group(*group).is_some() { address + 1 } else { *no }, at))
            }
            Instruction::Done => None,
        })
    }

    /// Back to the last choice above `floor`, undoing what was done since.
    fn back(&mut self, floor: usize) -> Result<Next, Exceeded> {
        while self.stack.len() > floor {
            self.charge(1)?;
            let Some(entry) = self.stack.pop() else { break };
            match entry {
                Entry::Mark { index, was } => self.marks[index] = was,
                Entry::Counter { index, was } => self.counters[index] = was,
                Entry::Choice { address, at } => return Ok(Some((address, at))),
                Entry::GiveBack { address, lowest, at } => {
                    if let Some(next) = self.give_back(address, lowest, at)? {
                        return Ok(Some(next));
                    }
                }
                Entry::TakeMore { address, at, left } => {
                    if let Some(next) = self.take_more(address, at, left) {
                        return Ok(Some(next));
                    }
                }
                Entry::Round { address, at } => {
                    if let Some(next) = self.another_round(address, at) {
                        return Ok(Some(next));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A part matched once and for all: its choices are dropped, what it undoes is kept.
    fn once(&mut self, address: Address, at: usize) -> Result<Option<usize>, Exceeded> {
        let floor = self.stack.len();
        let end = self.run(address, at)?;
        if end.is_some() {
            self.charge((self.stack.len() - floor) / LOOKED_UP_PER_STEP)?;
            let mut kept = floor;
            for index in floor..self.stack.len() {
                if matches!(self.stack[index], Entry::Mark { .. } | Entry::Counter { .. }) {
                    self.stack.swap(kept, index);
                    kept += 1;
                }
            }
            self.stack.truncate(kept);
        }
        Ok(end)
    }

    /// Whether a part matches, leaving no trace.
    fn found_and_undone(&mut self, address: Address, at: usize) -> Result<bool, Exceeded> {
        let floor = self.stack.len();
        let found = self.run(address, at)?.is_some();
        while self.stack.len() > floor {
            match self.stack.pop() {
                Some(Entry::Mark { index, was }) => self.marks[index] = was,
                Some(Entry::Counter { index, was }) => self.counters[index] = was,
                Some(
                    Entry::Choice { .. }
                    | Entry::GiveBack { .. }
                    | Entry::TakeMore { .. }
                    | Entry::Round { .. },
                )
                | None => {}
            }
        }
        Ok(found)
    }

    fn set_counter(&mut self, index: usize, counter: Counter) {
        self.stack.push(Entry::Counter { index, was: self.counters[index] });
        self.counters[index] = counter;
    }

    /// At the end of a greedy loop's round, or before its first.
    fn greedy(&mut self, repeat: &Loop, address: Address, at: usize) -> (Address, usize) {
        let Counter { rounds, last_start } = self.counters[repeat.counter];
        if rounds < repeat.min {
            self.set_counter(repeat.counter, Counter { rounds: rounds + 1, last_start });
            return (repeat.body, at);
        }
        if (rounds < repeat.max || repeat.max == u32::MAX) && last_start != Some(at) {
            // The undo lies above the choice: whoever comes back to it finds the counter as it is now.
            self.stack.push(Entry::Choice { address: address + 1, at });
            self.set_counter(
                repeat.counter,
                Counter { rounds: rounds.saturating_add(1), last_start: Some(at) },
            );
            return (repeat.body, at);
        }
        (address + 1, at)
    }

    /// At the end of a lazy loop's round, or before its first.
    fn lazy(&mut self, repeat: &Loop, address: Address, at: usize) -> (Address, usize) {
        let Counter { rounds, last_start } = self.counters[repeat.counter];
        if rounds < repeat.min {
            self.set_counter(repeat.counter, Counter { rounds: rounds + 1, last_start });
            return (repeat.body, at);
        }
        self.stack.push(Entry::Round { address, at });
        (address + 1, at)
    }

    fn another_round(&mut self, address: Address, at: usize) -> Next {
        let Instruction::Lazy(repeat) = &self.program.instructions[address] else { return None };
        let Counter { rounds, last_start } = self.counters[repeat.counter];
        if (rounds >= repeat.max && repeat.max != u32::MAX) || last_start == Some(at) {
            return None;
        }
        self.set_counter(repeat.counter, Counter { rounds: rounds.saturating_add(1), last_start: Some(at) });
        Some((repeat.body, at))
    }

    fn possessive(
        &mut self,
        min: u32,
        max: u32,
        body: Address,
        at: usize,
    ) -> Result<Option<usize>, Exceeded> {
        let mut at = at;
        let mut rounds = 0;
        while rounds < min {
            let Some(end) = self.once(body, at)? else { return Ok(None) };
            at = end;
            rounds += 1;
        }
        let mut last_start = None;
        while (rounds < max || max == u32::MAX) && last_start != Some(at) {
            last_start = Some(at);
            let Some(end) = self.once(body, at)? else { break };
            at = end;
            rounds = rounds.saturating_add(1);
        }
        Ok(Some(at))
    }

    fn repeat_one(&mut self, repeat: &RepeatOne, address: Address, at: usize) -> Result<Next, Exceeded> {
        let wanted = if repeat.kind == RepeatKind::Lazy { repeat.min } else { repeat.max };
        let (mut end, mut lowest, mut taken) = (at, at, 0);
        while taken < wanted
            && let Some(next) = self.one(&repeat.test, end)
        {
            end = next;
            taken += 1;
            if taken == repeat.min {
                lowest = end;
            }
        }
        let passed = usize::try_from(taken).unwrap_or(usize::MAX);
        self.charge(match repeat.test {
            // One beyond ASCII, which has more than one byte, is looked up in tables.
            Test::Set(_) => passed / LOOKED_UP_PER_STEP + 4 * (end - at).saturating_sub(passed),
            Test::Any | Test::NotNewline | Test::Is(_) | Test::IsNot(_) => passed / PASSED_PER_STEP,
        })?;
        if taken < repeat.min {
            return Ok(None);
        }
        match repeat.kind {
            RepeatKind::Possessive => {}
            RepeatKind::Greedy => {
                self.stack.push(Entry::GiveBack { address: address + 1, lowest, at: end });
                return Ok(None); // the stack's top is tried at once: all of it first
            }
            RepeatKind::Lazy => {
                let left = if repeat.max == u32::MAX { u32::MAX } else { repeat.max - taken };
                self.stack.push(Entry::TakeMore { address, at: end, left });
            }
        }
        Ok(Some((address + 1, end)))
    }

    /// Goes on with as many characters as a greedy repeat still has, leaving one fewer for later. Ends that the next
    /// instruction can't go on from are passed over.
    fn give_back(&mut self, address: Address, lowest: usize, at: usize) -> Result<Next, Exceeded> {
        let next = &self.program.instructions[address];
        let wanted = if let Instruction::One(Test::Is(code)) = next { Some(*code) } else { None };
        let mut at = at;
        let mut passed = 0;
        while wanted.is_some() && self.char_at(at).map(|(code, _)| code) != wanted {
            passed += 1;
            if at <= lowest {
                self.charge(passed / PASSED_PER_STEP)?;
                return Ok(None);
            }
            at = self.previous(at);
        }
        self.charge(passed / PASSED_PER_STEP)?;
        if at > lowest {
            self.stack.push(Entry::GiveBack { address, lowest, at: self.previous(at) });
        }
        Ok(Some((address, at)))
    }

    fn take_more(&mut self, address: Address, at: usize, left: u32) -> Next {
        let Instruction::RepeatOne(repeat) = &self.program.instructions[address] else { return None };
        if left == 0 {
            return None;
        }
        let at = self.one(&repeat.test, at)?;
        let left = if left == u32::MAX { left } else { left - 1 };
        self.stack.push(Entry::TakeMore { address, at, left });
        Some((address + 1, at))
    }

    /// The group's text, if it has matched as a whole.
    fn group(&self, group: usize) -> Option<&'a str> {
        let (start, end) = (self.marks[group * 2]?, self.marks[group * 2 + 1]?);
        self.text.get(start..end)
    }

    fn reference(&mut self, group: usize, fold: Fold, at: usize) -> Result<Option<usize>, Exceeded> {
        let Some(wanted) = self.group(group) else { return Ok(None) };
        self.charge(match fold {
            Fold::None => wanted.len() / PASSED_PER_STEP,
            Fold::Ascii | Fold::Unicode => wanted.len() / LOOKED_UP_PER_STEP,
        })?;
        let mut at = at;
        for c in wanted.chars() {
            match self.char_at(at) {
                Some((code, next)) if fold.apply(code) == fold.apply(c.into()) => at = next,
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The character here and where the next one starts.
    fn char_at(&self, at: usize) -> Option<(u32, usize)> {
        let first = *self.text.as_bytes().get(at)?;
        if first < 128 {
            return Some((u32::from(first), at + 1));
        }
        let c = self.text.get(at..)?.chars().next()?;
        Some((c.into(), at + c.len_utf8()))
    }

    /// Where the character before this place starts; not asked at the start.
    fn previous(&self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = at.saturating_sub(1);
        while at > 0 && bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
            at -= 1;
        }
        at
    }

    /// The place that many characters before, if there are so many.
    fn before(&self, at: usize, characters: u64) -> Option<usize> {
        let mut at = at;
        for _ in 0..characters {
            if at == 0 {
                return None;
            }
            at = self.previous(at);
        }
        Some(at)
    }

    fn one(&self, test: &Test, at: usize) -> Option<usize> {
        let (code, next) = self.char_at(at)?;
        let accepted = match test {
            Test::Any => true,
            Test::NotNewline => code != u32::from('\n'),
            Test::Is(wanted) => code == *wanted,
            Test::IsNot(unwanted) => code != *unwanted,
            Test::Set(set) => set.accepts(code),
        };
        accepted.then_some(next)
    }

    fn is_at(&self, place: Place, at: usize) -> bool {
        let (before, after) = (&self.text[..at], &self.text[at..]);
        match place {
            Place::TextStart => before.is_empty(),
            Place::LineStart => before.is_empty() || before.ends_with('\n'),
            Place::TextEnd => after.is_empty(),
            Place::LastLineEnd => after.is_empty() || after == "\n",
            Place::LineEnd => after.is_empty() || after.starts_with('\n'),
            Place::Boundary { negated, ascii } => {
                // In an empty text there is neither a boundary nor its opposite.
                let word = |c: Option<char>| c.is_some_and(|c| is_word(c, ascii));
                let differ = word(before.chars().next_back()) != word(after.chars().next());
                !self.text.is_empty() && differ != negated
            }
        }
    }
}
