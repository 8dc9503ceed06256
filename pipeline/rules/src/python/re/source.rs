//! A pattern's text, one token at a time: a character, or a backslash with the character after it.

use super::PatternError;

/// A token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Char(char),
    /// A backslash and this.
    Escape(char),
}

/// Where the parser stands.
#[derive(Debug)]
pub(super) struct Source {
    chars: Vec<char>,
    at: usize,
}

impl Source {
    /// Refuses a pattern that ends within an escape, as Python does at whatever point it gets there.
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let chars: Vec<char> = text.chars().collect();
        let backslashes = chars.iter().rev().take_while(|c| **c == '\\').count();
        if backslashes % 2 == 1 {
            return Err(PatternError("bad escape at the end"));
        }
        Ok(Self { chars, at: 0 })
    }

    pub(super) fn peek(&self) -> Option<Token> {
        match *self.chars.get(self.at)? {
            '\\' => self.chars.get(self.at + 1).map(|c| Token::Escape(*c)),
            c => Some(Token::Char(c)),
        }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.at += match token {
            Token::Char(_) => 1,
            Token::Escape(_) => 2,
        };
        Some(token)
    }

    /// Takes this character if it comes next.
    pub(super) fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(Token::Char(c));
        self.at += usize::from(found);
        found
    }

    /// Takes up to `max` characters that fit.
    pub(super) fn take_while(&mut self, max: usize, fits: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while taken.len() < max
            && let Some(Token::Char(c)) = self.peek()
            && fits(c)
        {
            taken.push(c);
            self.at += 1;
        }
        taken
    }

    /// A name that isn't blank, up to this character, which is taken, too.
    pub(super) fn take_until(&mut self, end: char) -> Result<String, PatternError> {
        let mut taken = String::new();
        loop {
            match self.next().ok_or(PatternError("a name without its end"))? {
                Token::Char(c) if c == end => break,
                Token::Char(c) => taken.push(c),
                Token::Escape(c) => taken.extend(['\\', c]),
            }
        }
        if taken.is_empty() { Err(PatternError("a missing name")) } else { Ok(taken) }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn seek(&mut self, position: usize) {
        self.at = position;
    }
}
