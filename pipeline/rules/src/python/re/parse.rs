//! From a pattern's text to its tree, refusing what Python 3.11 refuses.

use std::collections::HashMap;

use super::PatternError;
use super::simplify::{distinct, joined, unwrapped};
use super::source::{Source, Token};
use super::tree::{At, Flags, Node, Parsed, RepeatKind, Sequence, SetItem, Width};
use crate::python::{Int, is_assigned, parse_int};

/// Groups nested deeper exceed Python's recursion limit.
const DEPTH_MAX: usize = 450;
/// The largest count of a repeat, and one more than the largest that can be written.
const REPEAT_MAX: u32 = u32::MAX;

/// The whole pattern.
pub(super) fn pattern(text: &str) -> Result<Parsed, PatternError> {
    let mut parser = Parser {
        source: Source::new(text)?,
        flags: Flags::default(),
        names: HashMap::new(),
        group_widths: vec![None],
        look_behind_groups: None,
        conditions: Vec::new(),
    };
    let body = parser.alternatives(false, 0)?;
    if parser.source.peek().is_some() {
        return Err(PatternError("unbalanced parenthesis"));
    }
    if parser.conditions.iter().any(|group| *group >= parser.group_widths.len()) {
        return Err(PatternError("invalid group reference"));
    }
    if parser.flags.has(Flags::ASCII) && parser.flags.has(Flags::UNICODE) {
        return Err(PatternError("ASCII and UNICODE flags are incompatible"));
    }
    let flags = if parser.flags.has(Flags::ASCII) { parser.flags } else { parser.flags.with(Flags::UNICODE) };
    Ok(Parsed { body, flags, group_widths: parser.group_widths })
}

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Parser {
    pub(super) source: Source,
    /// The global flags.
    flags: Flags,
    names: HashMap<String, usize>,
    /// By number; `None` while the group is open.
    group_widths: Vec<Option<Width>>,
    /// Within a look-behind: how many groups there were before it.
    look_behind_groups: Option<usize>,
    /// Groups that conditionals ask for; they may come later.
    conditions: Vec<usize>,
}

impl Parser {
    /// `a|b|c`, up to a `)` or the end.
    fn alternatives(&mut self, mut verbose: bool, depth: usize) -> Result<Sequence, PatternError> {
        if depth > DEPTH_MAX {
            return Err(PatternError("groups are nested too deep"));
        }
        let mut branches = Vec::new();
        loop {
            branches.push(self.sequence(verbose, depth, depth == 0 && branches.is_empty())?);
            if !self.source.take('|') {
                break;
            }
            if depth == 0 {
                verbose = self.flags.has(Flags::VERBOSE);
            }
        }
        Ok(joined(branches))
    }

    /// Parts one after another, up to a `|`, a `)` or the end. Global flags may only stand at the very start.
    fn sequence(&mut self, mut verbose: bool, depth: usize, first: bool) -> Result<Sequence, PatternError> {
        let mut sequence = Sequence::new();
        while let Some(token) = self.source.peek() {
            if matches!(token, Token::Char('|' | ')')) {
                break;
            }
            self.source.next();
            match token {
                Token::Char(' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}') if verbose => {}
                Token::Char('#') if verbose => {
                    while !matches!(self.source.next(), None | Some(Token::Char('\n'))) {}
                }
                Token::Escape(c) => {
                    let node = self.escape(c)?;
                    sequence.push(node);
                }
                Token::Char('[') => {
                    let node = self.set()?;
                    sequence.push(node);
                }
                Token::Char(c @ ('?' | '*' | '+' | '{')) => self.repeat(c, &mut sequence)?,
                Token::Char('.') => sequence.push(Node::Any),
                Token::Char('^') => sequence.push(Node::At(At::LineStart)),
                Token::Char('$') => sequence.push(Node::At(At::LineEnd)),
                Token::Char('(') => match self.group(verbose, depth)? {
                    Opened::Node(node) => sequence.push(node),
                    Opened::Comment => {}
                    Opened::GlobalFlags if first && sequence.is_empty() => {
                        verbose = self.flags.has(Flags::VERBOSE)
                    }
                    Opened::GlobalFlags => return Err(PatternError("global flags not at the start")),
                },
                Token::Char(c) => sequence.push(Node::Literal(c.into())),
            }
        }
        Ok(unwrapped(sequence))
    }

    /// After `[`.
    fn set(&mut self) -> Result<Node, PatternError> {
        const UNTERMINATED: PatternError = PatternError("unterminated character set");
        let negated = self.source.take('^');
        let mut items: Vec<SetItem> = Vec::new();
        loop {
            let token = self.source.next().ok_or(UNTERMINATED)?;
            if token == Token::Char(']') && !items.is_empty() {
                break;
            }
            let low = self.set_item(token)?;
            if !self.source.take('-') {
                items.push(low);
                continue;
            }
            let token = self.source.next().ok_or(UNTERMINATED)?;
            if token == Token::Char(']') {
                items.extend([low, SetItem::Literal('-'.into())]);
                break;
            }
            match (low, self.set_item(token)?) {
                (SetItem::Literal(low), SetItem::Literal(high)) if low <= high => {
                    items.push(SetItem::Range(low, high))
                }
                _ => return Err(PatternError("bad character range")),
            }
        }
        let items = distinct(items);
        Ok(match (items.as_slice(), negated) {
            ([SetItem::Literal(code)], false) => Node::Literal(*code),
            ([SetItem::Literal(code)], true) => Node::NotLiteral(*code),
            _ => Node::Set { negated, items },
        })
    }

    fn set_item(&mut self, token: Token) -> Result<SetItem, PatternError> {
        match token {
            Token::Escape(c) => self.set_escape(c),
            Token::Char(c) => Ok(SetItem::Literal(c.into())),
        }
    }

    /// A quantifier, applied to the part before it.
    fn repeat(&mut self, c: char, sequence: &mut Sequence) -> Result<(), PatternError> {
        let (min, max) = match c {
            '?' => (0, Some(1)),
            '*' => (0, None),
            '+' => (1, None),
            _ => match self.counts()? {
                Some(counts) => counts,
                None => {
                    sequence.push(Node::Literal(c.into()));
                    return Ok(());
                }
            },
        };
        let body = match sequence.pop() {
            None | Some(Node::At(_)) => return Err(PatternError("nothing to repeat")),
            Some(Node::Repeat { .. }) => return Err(PatternError("multiple repeat")),
            Some(Node::Group { capture: None, add, remove, body }) if add.is_empty() && remove.is_empty() => {
                body
            }
            Some(node) => vec![node],
        };
        let kind = if self.source.take('?') {
            RepeatKind::Lazy
        } else if self.source.take('+') {
            RepeatKind::Possessive
        } else {
            RepeatKind::Greedy
        };
        sequence.push(Node::Repeat { kind, min, max, body });
        Ok(())
    }

    /// After `{`: the counts, or nothing when the brace stands for itself.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        if self.source.peek() == Some(Token::Char('}')) {
            return Ok(None);
        }
        let start = self.source.position();
        let digits = |c: char| c.is_ascii_digit();
        let low = self.source.take_while(usize::MAX, digits);
        let high =
            if self.source.take(',') { self.source.take_while(usize::MAX, digits) } else { low.clone() };
        if !self.source.take('}') {
            self.source.seek(start);
            return Ok(None);
        }
        let count = |text: &str| match text.parse::<u32>() {
            Ok(n) if n < REPEAT_MAX => Ok(n),
            Ok(_) | Err(_) => Err(PatternError("the repetition number is too large")),
        };
        let min = if low.is_empty() { 0 } else { count(&low)? };
        let max = if high.is_empty() { None } else { Some(count(&high)?) };
        if max.is_some_and(|max| max < min) {
            return Err(PatternError("min repeat greater than max repeat"));
        }
        Ok(Some((min, max)))
    }

    /// After `(`.
    fn group(&mut self, verbose: bool, depth: usize) -> Result<Opened, PatternError> {
        if !self.source.take('?') {
            return self.capture(None, verbose, depth).map(Opened::Node);
        }
        let plain = Flags::default();
        match self.source.next().ok_or(PatternError("unexpected end of pattern"))? {
            Token::Char('P') => self.named(verbose, depth),
            Token::Char(':') => self.plain_group(plain, plain, verbose, depth),
            Token::Char('#') => {
                while self.source.next().ok_or(PatternError("unterminated comment"))? != Token::Char(')') {}
                Ok(Opened::Comment)
            }
            Token::Char('=') => self.look(false, false, verbose, depth),
            Token::Char('!') => self.look(false, true, verbose, depth),
            Token::Char('<') => match self.source.next() {
                Some(Token::Char('=')) => self.look(true, false, verbose, depth),
                Some(Token::Char('!')) => self.look(true, true, verbose, depth),
                Some(_) | None => Err(PatternError("unknown extension ?<")),
            },
            Token::Char('(') => self.conditional(verbose, depth),
            Token::Char('>') => {
                let body = self.alternatives(verbose, depth + 1)?;
                self.close()?;
                Ok(Opened::Node(Node::Atomic(body)))
            }
            Token::Char(c) if c == '-' || c == 'L' || Flags::of_letter(c).is_some() => {
                match self.flag_letters(c)? {
                    None => Ok(Opened::GlobalFlags),
                    Some((add, remove)) => self.plain_group(add, remove, verbose, depth),
                }
            }
            Token::Char(_) | Token::Escape(_) => Err(PatternError("unknown extension")),
        }
    }

    fn close(&mut self) -> Result<(), PatternError> {
        if self.source.take(')') { Ok(()) } else { Err(PatternError("missing ), unterminated subpattern")) }
    }

    fn capture(&mut self, name: Option<String>, verbose: bool, depth: usize) -> Result<Node, PatternError> {
        let number = self.group_widths.len();
        self.group_widths.push(None);
        if let Some(name) = name
            && self.names.insert(name, number).is_some()
        {
            return Err(PatternError("redefinition of a group name"));
        }
        let body = self.alternatives(verbose, depth + 1)?;
        self.close()?;
        self.group_widths[number] = Some(Width::of(&body, &self.group_widths));
        Ok(Node::Group { capture: Some(number), add: Flags::default(), remove: Flags::default(), body })
    }

    fn plain_group(
        &mut self,
        add: Flags,
        remove: Flags,
        verbose: bool,
        depth: usize,
    ) -> Result<Opened, PatternError> {
        let verbose = (verbose || add.has(Flags::VERBOSE)) && !remove.has(Flags::VERBOSE);
        let body = self.alternatives(verbose, depth + 1)?;
        self.close()?;
        Ok(Opened::Node(Node::Group { capture: None, add, remove, body }))
    }

    /// After `(?P`.
    fn named(&mut self, verbose: bool, depth: usize) -> Result<Opened, PatternError> {
        if self.source.take('<') {
            let name = self.source.take_until('>')?;
            check_name(&name)?;
            return self.capture(Some(name), verbose, depth).map(Opened::Node);
        }
        if self.source.take('=') {
            let name = self.source.take_until(')')?;
            check_name(&name)?;
            let group = *self.names.get(&name).ok_or(PatternError("unknown group name"))?;
            return self.reference(group).map(Opened::Node);
        }
        Err(PatternError("unknown extension ?P"))
    }

    fn look(
        &mut self,
        behind: bool,
        negated: bool,
        verbose: bool,
        depth: usize,
    ) -> Result<Opened, PatternError> {
        let outermost = behind && self.look_behind_groups.is_none();
        if outermost {
            self.look_behind_groups = Some(self.group_widths.len());
        }
        let body = self.alternatives(verbose, depth + 1)?;
        if outermost {
            self.look_behind_groups = None;
        }
        self.close()?;
        Ok(Opened::Node(Node::Look { behind, negated, body }))
    }

    /// After `(?(`: a group's name or number, then one or two branches.
    fn conditional(&mut self, verbose: bool, depth: usize) -> Result<Opened, PatternError> {
        if depth > DEPTH_MAX {
            return Err(PatternError("groups are nested too deep"));
        }
        let name = self.source.take_until(')')?;
        let group = if is_identifier(&name) {
            *self.names.get(&name).ok_or(PatternError("unknown group name"))?
        } else {
            match parse_int(&name) {
                Some(Int::Small(number)) if (1..i64::from(i32::MAX)).contains(&number) => {
                    let number =
                        usize::try_from(number).map_err(|_| PatternError("invalid group reference"))?;
                    self.conditions.push(number);
                    number
                }
                Some(Int::Small(_) | Int::Big(_)) | None => return Err(PatternError("bad group number")),
            }
        };
        self.check_look_behind(group)?;
        let yes = self.sequence(verbose, depth + 1, false)?;
        let no = if self.source.take('|') { Some(self.sequence(verbose, depth + 1, false)?) } else { None };
        self.close()?;
        Ok(Opened::Node(Node::Conditional { group, yes, no }))
    }

    /// A reference to a group by number.
    pub(super) fn reference(&mut self, group: usize) -> Result<Node, PatternError> {
        match self.group_widths.get(group) {
            None => Err(PatternError("invalid group reference")),
            Some(None) => Err(PatternError("cannot refer to an open group")),
            Some(Some(_)) => {
                self.check_look_behind(group)?;
                Ok(Node::Reference(group))
            }
        }
    }

    fn check_look_behind(&self, group: usize) -> Result<(), PatternError> {
        let Some(before) = self.look_behind_groups else { return Ok(()) };
        let closed = self.group_widths.get(group).is_some_and(Option::is_some);
        if closed && group < before {
            Ok(())
        } else {
            Err(PatternError("a look-behind refers to its own group"))
        }
    }

    /// Letters of `(?i)`, `(?i:…)`, `(?-i:…)`; `None` when they are global, else those added and removed.
    fn flag_letters(&mut self, first: char) -> Result<Option<(Flags, Flags)>, PatternError> {
        let mut add = Flags::default();
        let mut c = first;
        while c != '-' {
            let flag = Flags::of_letter(c).ok_or(PatternError("unknown flag"))?;
            add = add.with(flag);
            if !flag.types().is_empty() && add.types() != flag {
                return Err(PatternError("flags 'a', 'u' and 'L' are incompatible"));
            }
            c = self.flag_char()?;
            match c {
                ')' => {
                    self.flags = self.flags.with(add);
                    return Ok(None);
                }
                ':' => break,
                _ => {}
            }
        }
        let mut remove = Flags::default();
        if c == '-' {
            c = self.flag_char()?;
            while c != ':' {
                let flag = Flags::of_letter(c).ok_or(PatternError("unknown flag"))?;
                if !flag.types().is_empty() {
                    return Err(PatternError("cannot turn off flags 'a', 'u' and 'L'"));
                }
                remove = remove.with(flag);
                c = self.flag_char()?;
            }
            if remove.is_empty() {
                return Err(PatternError("missing flag"));
            }
        }
        let both = [add, remove];
        if both.iter().any(|flags| flags.has(Flags::TEMPLATE)) || add.has(remove) {
            return Err(PatternError("bad inline flags"));
        }
        Ok(Some((add, remove)))
    }

    fn flag_char(&mut self) -> Result<char, PatternError> {
        match self.source.next() {
            Some(Token::Char(c)) => Ok(c),
            Some(Token::Escape(_)) | None => Err(PatternError("unknown flag")),
        }
    }
}

/// What a `(` opened.
enum Opened {
    Node(Node),
    /// Nothing at all.
    Comment,
    /// `(?i)`: already noted.
    GlobalFlags,
}

fn check_name(name: &str) -> Result<(), PatternError> {
    if is_identifier(name) { Ok(()) } else { Err(PatternError("bad character in group name")) }
}

/// `str.isidentifier`, by Unicode 14: what joins or separates without width became part of a name only later.
fn is_identifier(name: &str) -> bool {
    let later = |c| !is_assigned(c) || matches!(c, '\u{200c}' | '\u{200d}' | '\u{30fb}' | '\u{ff65}');
    let mut chars = name.chars();
    !name.chars().any(later)
        && chars.next().is_some_and(|c| c == '_' || unicode_ident::is_xid_start(c))
        && chars.all(unicode_ident::is_xid_continue)
}
