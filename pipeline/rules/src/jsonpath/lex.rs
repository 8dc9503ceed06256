//! From text to tokens. The reference's package reads the whole text first, so an error anywhere makes it a name.

use super::CompileError;

/// A token and, for names and literals, its text without quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Root,
    Current,
    DoubleDot,
    Name,
    Wildcard,
    LeftBracket,
    RightBracket,
    LeftParenthesis,
    RightParenthesis,
    Comma,
    Colon,
    Index,
    SingleQuoted,
    DoubleQuoted,
    Filter,
    Function,
    Int,
    Float,
    True,
    False,
    Null,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    End,
}

/// Where in a path the lexer stands.
enum State {
    Segment,
    Bracketed,
    InFilter,
}

/// The tokens of a path, the last one [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, CompileError> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer {
        chars: &chars,
        at: 0,
        start: 0,
        filter_depth: 0,
        call_parentheses: Vec::new(),
        open: Vec::new(),
        tokens: Vec::new(),
    };
    if lexer.next() != Some('$') {
        return Err(CompileError::Syntax);
    }
    lexer.emit(Kind::Root);
    let mut state = State::Segment;
    loop {
        let next = match state {
            State::Segment => lexer.segment()?,
            State::Bracketed => Some(lexer.bracketed()?),
            State::InFilter => Some(lexer.in_filter()?),
        };
        match next {
            Some(next) => state = next,
            None if lexer.open.is_empty() => return Ok(lexer.tokens),
            None => return Err(CompileError::Syntax),
        }
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    start: usize,
    filter_depth: usize,
    /// For each function call that is open, its open parentheses.
    call_parentheses: Vec<usize>,
    /// Brackets and parentheses that are open.
    open: Vec<char>,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.chars[self.start..self.at].iter().collect();
        self.tokens.push(Token { kind, text });
        self.start = self.at;
    }

    fn skip_space(&mut self) -> bool {
        self.accept_while(|c| matches!(c, ' ' | '\n' | '\r' | '\t')) && {
            self.start = self.at;
            true
        }
    }

    fn accept_while(&mut self, accepts: impl Fn(char) -> bool) -> bool {
        let before = self.at;
        while self.peek().is_some_and(&accepts) {
            self.at += 1;
        }
        self.at > before
    }

    fn accept_text(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(n, c)| self.chars.get(self.at + n) == Some(&c));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn digits(&mut self) -> bool {
        self.accept_while(|c| c.is_ascii_digit())
    }

    fn accept_name(&mut self) -> bool {
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || ('\u{80}'..='\u{ffff}').contains(&c);
        self.peek().is_some_and(starts) && self.accept_while(|c| starts(c) || c.is_ascii_digit() || c == '-')
    }

    fn open_bracket(&mut self) -> State {
        self.emit(Kind::LeftBracket);
        self.open.push('[');
        State::Bracketed
    }

    /// After `$`, `@` or a segment; `None` at the end.
    fn segment(&mut self) -> Result<Option<State>, CompileError> {
        if self.skip_space() && self.peek().is_none() {
            return Err(CompileError::Syntax);
        }
        match self.next() {
            None => {
                self.emit(Kind::End);
                Ok(None)
            }
            Some('.') if self.peek() == Some('.') => {
                self.at += 1;
                self.emit(Kind::DoubleDot);
                if self.peek() == Some('[') {
                    self.at += 1;
                    return Ok(Some(self.open_bracket()));
                }
                self.shorthand()
            }
            Some('.') => {
                self.start = self.at;
                self.shorthand()
            }
            Some('[') => Ok(Some(self.open_bracket())),
            Some(_) if self.filter_depth > 0 => {
                self.at -= 1;
                Ok(Some(State::InFilter))
            }
            Some(_) => Err(CompileError::Syntax),
        }
    }

    /// `*` or a name after `.` or `..`.
    fn shorthand(&mut self) -> Result<Option<State>, CompileError> {
        if self.peek() == Some('*') {
            self.at += 1;
            self.emit(Kind::Wildcard);
        } else if self.accept_name() {
            self.emit(Kind::Name);
        } else {
            return Err(CompileError::Syntax);
        }
        Ok(Some(State::Segment))
    }

    fn bracketed(&mut self) -> Result<State, CompileError> {
        loop {
            self.skip_space();
            match self.next().ok_or(CompileError::Syntax)? {
                ']' => {
                    if self.open.pop() != Some('[') {
                        return Err(CompileError::Syntax);
                    }
                    self.emit(Kind::RightBracket);
                    return Ok(State::Segment);
                }
                '*' => self.emit(Kind::Wildcard),
                '?' => {
                    self.emit(Kind::Filter);
                    self.filter_depth += 1;
                    return Ok(State::InFilter);
                }
                ',' => self.emit(Kind::Comma),
                ':' => self.emit(Kind::Colon),
                quote @ ('\'' | '"') => self.quoted(quote)?,
                c => {
                    self.at -= usize::from(c != '-');
                    if !self.digits() {
                        return Err(CompileError::Syntax);
                    }
                    self.emit(Kind::Index);
                }
            }
        }
    }

    /// A string, from after its opening quote. Escapes are checked for their letter only; the parser decodes them.
    fn quoted(&mut self, quote: char) -> Result<(), CompileError> {
        self.start = self.at;
        loop {
            match self.next().ok_or(CompileError::Syntax)? {
                '\\' => match self.next() {
                    Some('b' | 'f' | 'n' | 'r' | 't' | 'u' | '/' | '\\') => {}
                    Some(c) if c == quote => {}
                    Some(_) | None => return Err(CompileError::Syntax),
                },
                c if c == quote => {
                    self.at -= 1;
                    self.emit(if quote == '"' { Kind::DoubleQuoted } else { Kind::SingleQuoted });
                    self.at += 1;
                    self.start = self.at;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn in_filter(&mut self) -> Result<State, CompileError> {
        loop {
            self.skip_space();
            match self.next().ok_or(CompileError::Syntax)? {
                ']' => {
                    self.filter_depth -= 1;
                    self.at -= 1;
                    return Ok(State::Bracketed);
                }
                ',' => {
                    self.emit(Kind::Comma);
                    if self.call_parentheses.is_empty() {
                        self.filter_depth -= 1;
                        return Ok(State::Bracketed);
                    }
                }
                quote @ ('\'' | '"') => self.quoted(quote)?,
                '(' => {
                    self.emit(Kind::LeftParenthesis);
                    self.open.push('(');
                    if let Some(open) = self.call_parentheses.last_mut() {
                        *open += 1;
                    }
                }
                ')' => self.close_parenthesis()?,
                '$' => {
                    self.emit(Kind::Root);
                    return Ok(State::Segment);
                }
                '@' => {
                    self.emit(Kind::Current);
                    return Ok(State::Segment);
                }
                '.' => {
                    self.at -= 1;
                    return Ok(State::Segment);
                }
                '!' => self.operator('=', Kind::NotEqual, Kind::Not),
                '<' => self.operator('=', Kind::LessOrEqual, Kind::Less),
                '>' => self.operator('=', Kind::GreaterOrEqual, Kind::Greater),
                '=' if self.peek() == Some('=') => self.operator('=', Kind::Equal, Kind::Equal),
                _ => {
                    self.at -= 1;
                    self.word()?;
                }
            }
        }
    }

    fn operator(&mut self, second: char, with: Kind, without: Kind) {
        let found = self.peek() == Some(second);
        self.at += usize::from(found);
        self.emit(if found { with } else { without });
    }

    fn close_parenthesis(&mut self) -> Result<(), CompileError> {
        if self.open.pop() != Some('(') {
            return Err(CompileError::Syntax);
        }
        self.emit(Kind::RightParenthesis);
        if let Some(open) = self.call_parentheses.last_mut() {
            *open -= 1;
            if *open == 0 {
                self.call_parentheses.pop();
            }
        }
        Ok(())
    }

    /// Words, numbers and function names within a filter.
    fn word(&mut self) -> Result<(), CompileError> {
        for (text, kind) in [
            ("&&", Kind::And),
            ("||", Kind::Or),
            ("true", Kind::True),
            ("false", Kind::False),
            ("null", Kind::Null),
        ] {
            if self.accept_text(text) {
                self.emit(kind);
                return Ok(());
            }
        }
        if let Some(kind) = self.number() {
            self.emit(kind);
            return Ok(());
        }
        let is_name = self.peek().is_some_and(|c| c.is_ascii_lowercase())
            && self.accept_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name || self.peek() != Some('(') {
            return Err(CompileError::Syntax);
        }
        self.call_parentheses.push(1);
        self.emit(Kind::Function);
        self.open.push('(');
        self.at += 1;
        self.start = self.at;
        Ok(())
    }

    /// A float is `1.5`, `1.5e3` or `1e-3`; an int is `1` or `1e3`. (A colon before the first form is taken along,
    /// a slip of the reference's package; the parser then refuses it.)
    fn number(&mut self) -> Option<Kind> {
        let start = self.at;
        self.accept_text(":");
        self.accept_text("-");
        if self.digits()
            && self.peek() == Some('.')
            && self.chars.get(self.at + 1).is_some_and(char::is_ascii_digit)
        {
            self.at += 1;
            self.digits();
            self.exponent(&["", "+", "-"]);
            return Some(Kind::Float);
        }
        self.at = start;
        self.accept_text("-");
        if self.digits() {
            if self.exponent(&["-"]) {
                return Some(Kind::Float);
            }
            self.exponent(&["", "+"]);
            return Some(Kind::Int);
        }
        self.at = start;
        None
    }

    fn exponent(&mut self, signs: &[&str]) -> bool {
        let start = self.at;
        if self.accept_text("e") || self.accept_text("E") {
            let sign = match self.peek() {
                Some('+') => "+",
                Some('-') => "-",
                Some(_) | None => "",
            };
            self.at += sign.len();
            if signs.contains(&sign) && self.digits() {
                return true;
            }
        }
        self.at = start;
        false
    }
}
