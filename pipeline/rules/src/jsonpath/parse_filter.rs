//! From tokens to the expression of a filter, `[?…]`, with its rules of types.

#![expect(clippy::wildcard_enum_match_arm, reason = "a token that isn't asked for is a syntax error")]

use super::filter::{Comparator, Expression, Function, Literal};
use super::lex::Kind;
use super::parse::Parser;
use super::{CompileError, FILTER_DEPTH_MAX};

const LOWEST: u8 = 1;
const OR: u8 = 3;
const AND: u8 = 4;
const RELATIONAL: u8 = 5;
const PREFIX: u8 = 7;

fn precedence(kind: Kind) -> u8 {
    match binary(kind) {
        Some(Binary::Or) => OR,
        Some(Binary::And) => AND,
        Some(Binary::Compare(_)) => RELATIONAL,
        None if kind == Kind::Not => PREFIX,
        None => LOWEST,
    }
}

enum Binary {
    And,
    Or,
    Compare(Comparator),
}

fn binary(kind: Kind) -> Option<Binary> {
    Some(match kind {
        Kind::And => Binary::And,
        Kind::Or => Binary::Or,
        Kind::Equal => Binary::Compare(Comparator::Equal),
        Kind::NotEqual => Binary::Compare(Comparator::NotEqual),
        Kind::Less => Binary::Compare(Comparator::Less),
        Kind::LessOrEqual => Binary::Compare(Comparator::LessOrEqual),
        Kind::Greater => Binary::Compare(Comparator::Greater),
        Kind::GreaterOrEqual => Binary::Compare(Comparator::GreaterOrEqual),
        _ => return None,
    })
}

fn raises(what: &str) -> CompileError {
    CompileError::Raises(format!("{what} in a filter raises in the reference"))
}

impl Parser {
    /// After `?`; ends on the expression's last token.
    pub(super) fn filter(&mut self) -> Result<Expression, CompileError> {
        self.advance();
        let expression = self.expression(LOWEST)?;
        match &expression {
            Expression::Call(function, _) if function.returns_value() => {
                Err(raises("a function that isn't compared"))
            }
            Expression::Literal(_) => Err(CompileError::Syntax),
            Expression::Call(..)
            | Expression::Query { .. }
            | Expression::Not(_)
            | Expression::And(..)
            | Expression::Or(..)
            | Expression::Compare(..) => Ok(expression),
        }
    }

    fn expression(&mut self, lowest: u8) -> Result<Expression, CompileError> {
        self.deeper()?;
        let mut left = match self.kind() {
            Kind::LeftParenthesis => self.parenthesised()?,
            Kind::Not => {
                self.advance();
                Expression::Not(Box::new(self.expression(PREFIX)?))
            }
            _ => self.operand()?,
        };
        loop {
            let peek = self.peek();
            if matches!(peek, Kind::End | Kind::RightBracket)
                || precedence(peek) < lowest
                || binary(peek).is_none()
            {
                self.filter_depth -= 1;
                return Ok(left);
            }
            self.advance();
            left = self.infix(left)?;
        }
    }

    /// Into a part of a part; out of it again, `filter_depth` goes down.
    fn deeper(&mut self) -> Result<(), CompileError> {
        self.filter_depth += 1;
        if self.filter_depth > FILTER_DEPTH_MAX { Err(raises("nesting this deep")) } else { Ok(()) }
    }

    /// What can stand alone as a function's argument, too.
    fn operand(&mut self) -> Result<Expression, CompileError> {
        Ok(Expression::Literal(match self.kind() {
            Kind::SingleQuoted | Kind::DoubleQuoted => Literal::Text(self.string()?),
            Kind::True => Literal::Bool(true),
            Kind::False => Literal::Bool(false),
            Kind::Null => Literal::Null,
            Kind::Int => self.int()?,
            Kind::Float => self.float()?,
            Kind::Function => return self.call(),
            Kind::Root | Kind::Current => {
                let from_root = self.kind() == Kind::Root;
                self.advance();
                return Ok(Expression::Query { from_root, query: self.segments(true)? });
            }
            _ => return Err(CompileError::Syntax),
        }))
    }

    /// Through a float, as the reference's package goes: `1e3` is an int, and large ones lose their last digits.
    fn int(&self) -> Result<Literal, CompileError> {
        let text = self.text();
        if text.len() > 1 && text.starts_with('0') {
            return Err(CompileError::Syntax);
        }
        let number: f64 = text.parse().map_err(|_| CompileError::Syntax)?;
        if number.is_finite() {
            Ok(Literal::Int(number))
        } else {
            Err(raises("an int beyond the range of floats"))
        }
    }

    fn float(&self) -> Result<Literal, CompileError> {
        let text = self.text();
        let whole = text.split('.').next().unwrap_or_default();
        if text.starts_with('0') && whole.len() > 1 {
            return Err(CompileError::Syntax);
        }
        text.parse().map(Literal::Float).map_err(|_| CompileError::Syntax)
    }

    fn parenthesised(&mut self) -> Result<Expression, CompileError> {
        self.advance();
        let mut expression = self.expression(LOWEST)?;
        self.advance();
        while self.kind() != Kind::RightParenthesis {
            expression = self.infix(expression)?;
        }
        Ok(expression)
    }

    /// From the operator between two expressions; ends on the last token of the right one.
    fn infix(&mut self, left: Expression) -> Result<Expression, CompileError> {
        let kind = self.kind();
        self.advance();
        let right = self.expression(precedence(kind))?;
        let Some(operator) = binary(kind) else { return Err(CompileError::Syntax) };
        let (left, right) = match operator {
            Binary::Compare(comparator) => {
                check_comparable(&left)?;
                check_comparable(&right)?;
                return Ok(Expression::Compare(Box::new(left), comparator, Box::new(right)));
            }
            Binary::And | Binary::Or => (left, right),
        };
        if matches!(left, Expression::Literal(_)) || matches!(right, Expression::Literal(_)) {
            return Err(CompileError::Syntax);
        }
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(if matches!(operator, Binary::And) {
            Expression::And(left, right)
        } else {
            Expression::Or(left, right)
        })
    }

    /// A call, from its name to its closing parenthesis, on which it ends.
    fn call(&mut self) -> Result<Expression, CompileError> {
        self.deeper()?;
        let name = self.text().to_owned();
        self.advance();
        let mut arguments = Vec::new();
        while self.kind() != Kind::RightParenthesis {
            let mut argument = self.operand()?;
            while binary(self.peek()).is_some() {
                self.advance();
                argument = self.infix(argument)?;
            }
            arguments.push(argument);
            match self.peek() {
                Kind::RightParenthesis => {}
                Kind::Comma => self.advance(),
                _ => return Err(CompileError::Syntax),
            }
            self.advance();
        }
        let function = Function::of_name(&name).ok_or_else(|| raises("an unknown function"))?;
        function.check(&arguments)?;
        self.filter_depth -= 1;
        Ok(Expression::Call(function, arguments))
    }
}

/// A path that may find several nodes, and a function that gives a truth, can't be compared.
fn check_comparable(expression: &Expression) -> Result<(), CompileError> {
    match expression {
        Expression::Query { query, .. } if !query.is_singular() => {
            Err(raises("comparing a path of many nodes"))
        }
        Expression::Call(function, _) if !function.returns_value() => Err(raises("comparing a truth")),
        Expression::Query { .. }
        | Expression::Call(..)
        | Expression::Literal(_)
        | Expression::Not(_)
        | Expression::And(..)
        | Expression::Or(..)
        | Expression::Compare(..) => Ok(()),
    }
}
