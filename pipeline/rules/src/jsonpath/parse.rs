//! From tokens to a [`Query`].

#![expect(clippy::wildcard_enum_match_arm, reason = "a token that isn't asked for is a syntax error")]

use std::collections::VecDeque;

use super::lex::{Kind, Token};
use super::{CompileError, Query, Segment, Selector};

/// Largest magnitude of an index; beyond it the reference's package raises what the reference doesn't catch.
const INDEX_MAX: i64 = (1 << 53) - 1;

/// The whole path.
pub(super) fn query(tokens: Vec<Token>) -> Result<Query, CompileError> {
    let mut parser = Parser { tokens: tokens.into(), filter_depth: 0 };
    parser.advance(); // the root
    let query = parser.segments(false)?;
    if parser.kind() == Kind::End { Ok(query) } else { Err(CompileError::Syntax) }
}

/// Tokens yet to come, the current one first; never empty of meaning: past the last one stands [`Kind::End`].
pub(super) struct Parser {
    tokens: VecDeque<Token>,
    pub(super) filter_depth: usize,
}

impl Parser {
    pub(super) fn kind(&self) -> Kind {
        self.tokens.front().map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn peek(&self) -> Kind {
        self.tokens.get(1).map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn text(&self) -> &str {
        self.tokens.front().map_or("", |token| token.text.as_str())
    }

    pub(super) fn advance(&mut self) {
        self.tokens.pop_front();
    }

    /// Puts the current token once more before itself: a part that ends by stepping over its last token has already
    /// stepped over it.
    fn step_back(&mut self) {
        let again = self.tokens.front().cloned().unwrap_or(Token { kind: Kind::End, text: String::new() });
        self.tokens.push_front(again);
    }

    /// Segments as long as there are any. Within a filter it ends on its last token, else past it.
    pub(super) fn segments(&mut self, in_filter: bool) -> Result<Query, CompileError> {
        let mut segments = Vec::new();
        loop {
            let descends = self.kind() == Kind::DoubleDot;
            if descends {
                self.advance();
            } else if !matches!(self.kind(), Kind::LeftBracket | Kind::Name | Kind::Wildcard) {
                break;
            }
            segments.push(Segment { descends, selectors: self.selectors()? });
            self.advance();
        }
        if in_filter {
            self.step_back();
        }
        Ok(Query { segments })
    }

    fn selectors(&mut self) -> Result<Vec<Selector>, CompileError> {
        match self.kind() {
            Kind::Name => Ok(vec![Selector::Name(self.text().to_owned())]),
            Kind::Wildcard => Ok(vec![Selector::Wildcard]),
            Kind::LeftBracket => self.bracketed(),
            _ => Ok(Vec::new()),
        }
    }

    /// From `[` to its `]`, on which it ends.
    fn bracketed(&mut self) -> Result<Vec<Selector>, CompileError> {
        self.advance();
        let mut selectors = Vec::new();
        while self.kind() != Kind::RightBracket {
            selectors.push(self.selector()?);
            match self.peek() {
                Kind::RightBracket => {}
                Kind::Comma => {
                    self.advance();
                    if self.peek() == Kind::RightBracket {
                        return Err(CompileError::Syntax);
                    }
                }
                _ => return Err(CompileError::Syntax),
            }
            self.advance();
        }
        if selectors.is_empty() { Err(CompileError::Syntax) } else { Ok(selectors) }
    }

    fn selector(&mut self) -> Result<Selector, CompileError> {
        match self.kind() {
            Kind::Index if self.peek() == Kind::Colon => self.slice(),
            Kind::Index => {
                let text = self.text();
                if (text.len() > 1 && text.starts_with('0')) || text.starts_with("-0") {
                    return Err(CompileError::Syntax);
                }
                index_in_range(text)?;
                Ok(Selector::Element { single: true })
            }
            Kind::SingleQuoted | Kind::DoubleQuoted => Ok(Selector::Name(self.string()?)),
            Kind::Colon => self.slice(),
            Kind::Wildcard => Ok(Selector::Wildcard),
            Kind::Filter => Ok(Selector::Filter(self.filter()?)),
            _ => Err(CompileError::Syntax),
        }
    }

    /// `start:stop:step`, each of which may be absent. Ranges are checked last, as in the reference's package: an
    /// error of form goes before an error of range.
    fn slice(&mut self) -> Result<Selector, CompileError> {
        let mut bounds = Vec::new();
        self.slice_bound(&mut bounds)?;
        if self.kind() != Kind::Colon {
            return Err(CompileError::Syntax);
        }
        self.advance();
        self.slice_bound(&mut bounds)?;
        if self.kind() == Kind::Colon {
            self.advance();
        }
        self.slice_bound(&mut bounds)?;
        self.step_back();
        for bound in &bounds {
            index_in_range(bound)?;
        }
        Ok(Selector::Element { single: false })
    }

    fn slice_bound(&mut self, bounds: &mut Vec<String>) -> Result<(), CompileError> {
        if self.kind() != Kind::Index {
            return Ok(());
        }
        let text = self.text();
        if text.len() > 1 && (text.starts_with('0') || text.starts_with("-0")) {
            return Err(CompileError::Syntax);
        }
        bounds.push(text.to_owned());
        self.advance();
        Ok(())
    }

    /// The current string, its escapes decoded. In single quotes `"` needs none and `\'` is one; control characters
    /// stand for themselves in neither.
    pub(super) fn string(&self) -> Result<String, CompileError> {
        let text = if self.kind() == Kind::SingleQuoted {
            self.text().replace('"', "\\\"").replace("\\'", "'")
        } else {
            self.text().to_owned()
        };
        let mut decoded = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let c = if c == '\\' { unescape(&mut rest)? } else { checked(c)? };
            decoded.push(c);
        }
        Ok(decoded)
    }
}

fn checked(c: char) -> Result<char, CompileError> {
    if c < ' ' { Err(CompileError::Syntax) } else { Ok(c) }
}

fn unescape(rest: &mut std::str::Chars<'_>) -> Result<char, CompileError> {
    Ok(match rest.next().ok_or(CompileError::Syntax)? {
        c @ ('"' | '\\' | '/') => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let high = hex4(rest)?;
            if !(0xd800..0xdc00).contains(&high) {
                return checked(char::from_u32(high).ok_or(CompileError::Syntax)?);
            }
            if rest.next() != Some('\\') || rest.next() != Some('u') {
                return Err(CompileError::Syntax);
            }
            let low = hex4(rest)?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(CompileError::Syntax);
            }
            char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(CompileError::Syntax)?
        }
        _ => return Err(CompileError::Syntax),
    })
}

fn hex4(rest: &mut std::str::Chars<'_>) -> Result<u32, CompileError> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + rest.next().and_then(|c| c.to_digit(16)).ok_or(CompileError::Syntax)?;
    }
    Ok(code)
}

fn index_in_range(text: &str) -> Result<(), CompileError> {
    match text.parse::<i64>() {
        Ok(index) if (-INDEX_MAX..=INDEX_MAX).contains(&index) => Ok(()),
        Ok(_) | Err(_) => {
            Err(CompileError::Raises("an index out of range raises in the reference".to_owned()))
        }
    }
}
