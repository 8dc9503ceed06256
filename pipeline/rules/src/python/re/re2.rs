//! Patterns in RE2's dialect, for a server that knows no other.
//!
//! Only whether there is a match at the start of the text counts, not which one. So laziness and captures fall away,
//! what stands at the very end may take more than Python's would (`$` a last newline, `(?=x)` the x), and look-aheads
//! at the very start are matches of their own. Classes, and letters without regard to case, are written out as the
//! ranges that our own engine accepts: RE2's tables are of another Unicode. What RE2 can't say, or would refuse for its
//! size, is never sent.

use std::fmt::Write;
use std::sync::LazyLock;

use super::charset::{CharSet, Fold, Ranges};
use super::parse;
use super::tree::{At, Flags, Node, RepeatKind, SetItem};

/// RE2 refuses counts beyond this, products of nested ones included.
const REPEATS_MAX: u64 = 1_000;
/// Ranges of characters, counted as often as repeats write them. RE2 compiles each into a few instructions of 16 bytes,
/// and refuses programs of several megabytes.
const RANGES_MAX: u64 = 12_000;
/// Bytes of a pattern: it travels with every query.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A pattern as RE2 patterns, each anchored at the start: there is a match where all of these answers are right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Re2 {
    /// Patterns, and whether they must match.
    pub(crate) parts: Vec<(String, bool)>,
    /// It is the same on ASCII text only.
    pub(crate) ascii_only: bool,
}

/// The pattern in RE2's dialect, or why it has none.
pub(crate) fn translate(text: &str) -> Result<Re2, &'static str> {
    let parsed = parse::pattern(text).map_err(|_| "the expression doesn't compile")?;
    let flags = parsed.flags;
    let mut rest = parsed.body.as_slice();
    let mut re2 = Re2 { parts: Vec::new(), ascii_only: false };
    let mut translate = |body: &[Node], wanted: bool| -> Result<(), &'static str> {
        let mut translator = Translator { out: String::from(r"\A(?:"), ranges: 0, ascii_only: false };
        translator.sequence(body, flags, true, 1)?;
        translator.out.push(')');
        re2.parts.push((translator.out, wanted));
        re2.ascii_only |= translator.ascii_only;
        Ok(())
    };
    while let Some((first, others)) = rest.split_first() {
        if let Node::Look { behind: false, negated, body } = first {
            translate(body, !negated)?;
        } else if !matches!(first, Node::At(At::LineStart | At::TextStart)) {
            break;
        }
        rest = others;
    }
    translate(rest, true)?;
    Ok(re2)
}

struct Translator {
    out: String,
    ranges: u64,
    ascii_only: bool,
}

impl Translator {
    /// `last`: nothing comes after it. `times`: how often repeats around it write it.
    fn sequence(&mut self, nodes: &[Node], flags: Flags, last: bool, times: u64) -> Result<(), &'static str> {
        for (at, node) in nodes.iter().enumerate() {
            self.node(node, flags, last && at + 1 == nodes.len(), times)?;
            if self.out.len() > TEXT_BYTES_MAX {
                return Err("the expression is too long for RE2");
            }
        }
        Ok(())
    }

    fn group(&mut self, nodes: &[Node], flags: Flags, last: bool, times: u64) -> Result<(), &'static str> {
        self.out.push_str("(?:");
        self.sequence(nodes, flags, last, times)?;
        self.out.push(')');
        Ok(())
    }

    fn node(&mut self, node: &Node, flags: Flags, last: bool, times: u64) -> Result<(), &'static str> {
        match node {
            Node::Literal(code) => match CharSet::of_letter(*code, false, flags) {
                Some(set) => self.set(&set, times),
                None => self.ranges(&[(*code, *code)], times),
            },
            Node::NotLiteral(code) => match CharSet::of_letter(*code, true, flags) {
                Some(set) => self.set(&set, times),
                None => self.items(&[SetItem::Literal(*code)], true, flags, times),
            },
            Node::Any if flags.has(Flags::DOT_ALL) => self.text("(?s:.)"),
            Node::Any => self.text(r"[^\n]"),
            Node::Set { negated, items } => self.items(items, *negated, flags, times),
            Node::At(at) => self.at(*at, flags, last),
            Node::Branch(branches) => {
                self.out.push_str("(?:");
                for (n, branch) in branches.iter().enumerate() {
                    self.out.push_str(if n == 0 { "" } else { "|" });
                    self.sequence(branch, flags, last, times)?;
                }
                self.text(")")
            }
            Node::Group { add, remove, body, .. } => {
                self.group(body, flags.within(*add, *remove), last, times)
            }
            Node::Repeat { kind: RepeatKind::Greedy | RepeatKind::Lazy, min, max, body } => {
                self.repeat(*min, *max, body, flags, times)
            }
            Node::Repeat { kind: RepeatKind::Possessive, .. } => Err("RE2 has no possessive repeats"),
            Node::Look { behind: false, negated: false, body } if last => {
                self.group(body, flags, true, times)
            }
            Node::Look { .. } => Err("RE2 looks neither ahead nor behind"),
            Node::Atomic(_) => Err("RE2 has no atomic groups"),
            Node::Reference(_) => Err("RE2 has no references to groups"),
            Node::Conditional { .. } => Err("RE2 has no conditionals"),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), &'static str> {
        self.out.push_str(text);
        Ok(())
    }

    fn at(&mut self, at: At, flags: Flags, last: bool) -> Result<(), &'static str> {
        let multiline = flags.has(Flags::MULTILINE);
        match at {
            At::LineStart if multiline => self.text("(?m:^)"),
            At::LineStart | At::TextStart => self.text(r"\A"),
            At::LineEnd if multiline => self.text("(?m:$)"),
            At::LineEnd if last => self.text(r"\n?\z"),
            At::LineEnd => Err("RE2's `$` knows no last newline"),
            At::TextEnd => self.text(r"\z"),
            At::Boundary => {
                self.ascii_only |= flags.has(Flags::UNICODE);
                self.text(r"\b")
            }
            At::NotBoundary => Err(r"RE2's `\B` holds in an empty text"),
        }
    }

    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        body: &[Node],
        flags: Flags,
        times: u64,
    ) -> Result<(), &'static str> {
        let count = u64::from(max.unwrap_or(min).max(min).max(1));
        let times = times.saturating_mul(count);
        if times > REPEATS_MAX {
            return Err("RE2 repeats a thousand times at most");
        }
        if max == Some(0) {
            return Ok(());
        }
        self.group(body, flags, false, times)?;
        let _ = match max {
            None if min == 0 => write!(self.out, "*"),
            None if min == 1 => write!(self.out, "+"),
            None => write!(self.out, "{{{min},}}"),
            Some(max) => write!(self.out, "{{{min},{max}}}"),
        };
        Ok(())
    }

    fn items(
        &mut self,
        items: &[SetItem],
        negated: bool,
        flags: Flags,
        times: u64,
    ) -> Result<(), &'static str> {
        self.set(&CharSet::of_items(items, negated, flags), times)
    }

    fn set(&mut self, set: &CharSet, times: u64) -> Result<(), &'static str> {
        let ranges = set.accepted(&FOLDED).ok_or("the expression folds letters beyond the basic plane")?;
        self.ranges(&ranges, times)
    }

    /// One character of these ranges, which hold no surrogates but in pairs around them.
    fn ranges(&mut self, ranges: &[(u32, u32)], times: u64) -> Result<(), &'static str> {
        self.ranges = self.ranges.saturating_add(times.saturating_mul(ranges.len() as u64));
        if self.ranges > RANGES_MAX {
            return Err("the expression is too large for RE2");
        }
        if let [(only, end)] = ranges
            && only == end
            && char::from_u32(*only)
                .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '@' | '_'))
        {
            self.out.extend(char::from_u32(*only));
            return Ok(());
        }
        let valid = |code: u32| char::from_u32(code).is_some();
        self.out.push('[');
        let mut empty = true;
        for &(low, high) in ranges {
            // A range that begins or ends among the surrogates, which no text holds, ends beside them.
            let low = if valid(low) { low } else { 0xe000 };
            let high = if valid(high) { high } else { 0xd7ff };
            if low <= high {
                empty = false;
                let _ = write!(self.out, r"\x{{{low:x}}}");
                if low < high {
                    let _ = write!(self.out, r"-\x{{{high:x}}}");
                }
            }
        }
        if empty {
            self.out.push_str(r"^\x{0}-\x{10ffff}");
        }
        self.out.push(']');
        Ok(())
    }
}

/// Characters that aren't their own lower case, by it.
static FOLDED: LazyLock<[Ranges; 2]> = LazyLock::new(|| {
    [Fold::Ascii, Fold::Unicode].map(|fold| {
        let mut pairs: Vec<(u32, u32)> = ('\0'..=char::MAX)
            .map(u32::from)
            .filter_map(|code| Some((fold.apply(code), code)).filter(|(lower, code)| lower != code))
            .collect();
        pairs.sort_unstable();
        pairs
    })
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(text: &str) -> String {
        let re2 = translate(text).unwrap();
        assert_eq!(re2.parts.len(), 1);
        re2.parts[0].0.clone()
    }

    #[test]
    fn patterns_are_written_for_re2() {
        for (pattern, re2) in [
            ("", r"\A(?:)"),
            ("^a.b$", r"\A(?:a[^\n]b\n?\z)"),
            (r"a+?b*\Z", r"\A(?:(?:a)+(?:b)*\z)"),
            ("(?P<n>a|bc)$", r"\A(?:(?:(?:a|bc))\n?\z)"),
            ("[a-c_]{2,3}", r"\A(?:(?:[\x{5f}\x{61}-\x{63}]){2,3})"),
            ("(?s).(?m:^x$)", r"\A(?:(?s:.)(?:(?m:^)x(?m:$)))"),
            ("x(?=yz)", r"\A(?:x(?:yz))"),
            (r"a{0}\.", r"\A(?:[\x{2e}])"),
            ("(?i:K)", "\\A(?:(?:[\\x{4b}\\x{6b}\\x{212a}]))"),
            (r"(?a)\d[^\s]", r"\A(?:[\x{30}-\x{39}][\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{10ffff}])"),
        ] {
            assert_eq!(one(pattern), re2, "{pattern}");
        }
    }

    #[test]
    fn looks_at_the_start_are_matches_of_their_own() {
        let re2 = translate("^(?!.*test)(?=.*@)x").unwrap();
        assert_eq!(
            re2.parts,
            [
                (r"\A(?:(?:[^\n])*test)".to_owned(), false),
                (r"\A(?:(?:[^\n])*@)".to_owned(), true),
                (r"\A(?:x)".to_owned(), true)
            ]
        );
    }

    #[test]
    fn what_re2_lacks_is_not_sent() {
        for pattern in [
            r"(a)\1",
            "(?<=a)b",
            "a(?=b)c",
            "a++",
            "(?>a)",
            "(a)?(?(1)b|c)",
            "a{1001}",
            "(a{100}){100}",
            "(a$)b",
            r"\w{20}",
            r"\B",
            "(",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
        assert!(translate(r"\bfoo").unwrap().ascii_only);
        assert!(!translate(r"(?a)\bfoo").unwrap().ascii_only);
    }

    #[test]
    fn ranges_are_what_the_engine_accepts() {
        for (items, negated, letters) in [
            ("[a-z]", false, "(?i)"),
            (r"[^\W_]", false, ""),
            (r"[\d\sK-ſ]", false, "(?i)"),
            (r"[^ß-ÿ\u1c80]", false, "(?i)"),
            (r"[^A-F\D]", false, "(?ia)"),
            ("s", false, "(?i)"),
        ] {
            let parsed = parse::pattern(&format!("{letters}{items}")).unwrap();
            let set = match &parsed.body[..] {
                [Node::Set { negated, items }] => CharSet::of_items(items, *negated, parsed.flags),
                [Node::Literal(code)] => CharSet::of_letter(*code, negated, parsed.flags).unwrap(),
                other => panic!("{other:?}"),
            };
            let ranges = set.accepted(&FOLDED).unwrap();
            let mut within = ranges.iter().flat_map(|(low, high)| *low..=*high).peekable();
            for code in ('\0'..=char::MAX).map(u32::from) {
                while within.next_if(|next| *next < code).is_some() {}
                assert_eq!(within.peek() == Some(&code), set.accepts(code), "{items} {code:x}");
            }
        }
    }
}
