//! The expression of a filter, `[?…]`, and its truth for a node.
//!
//! Follows the reference's package where it differs from RFC 9535: `@` on a scalar is the scalar itself, so `[?@]`
//! asks whether it is truthy, not whether it is there; bools are ordered as numbers.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::ControlFlow;

use num_bigint::BigInt;
use num_traits::FromPrimitive;
use rollcall_model::Value;

use super::walk::{Leaf, Node, UNWALKED, children, spend, visit};
use super::{CompileError, Query};
use crate::context::{Context, DocumentTree};
use crate::judge::Raised;
use crate::steps::Steps;

/// A part of a filter.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expression {
    Literal(Literal),
    /// A path from `$` or from `@`.
    Query {
        from_root: bool,
        query: Query,
    },
    Call(Function, Vec<Expression>),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Compare(Box<Expression>, Comparator, Box<Expression>),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    /// A whole number that came through a float.
    Int(f64),
    Float(f64),
    Text(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The functions that the reference's package knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Length,
    Count,
    Value,
    /// `match` and `search`, whose regular expressions are of a third dialect: known, never evaluated here.
    Expression,
}

impl Function {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "length" => Self::Length,
            "count" => Self::Count,
            "value" => Self::Value,
            "match" | "search" => Self::Expression,
            _ => return None,
        })
    }

    /// Whether it gives a value, which must be compared, not a truth, which can't be.
    pub(super) fn returns_value(self) -> bool {
        match self {
            Self::Length | Self::Count | Self::Value => true,
            Self::Expression => false,
        }
    }

    fn takes_nodes(self) -> bool {
        match self {
            Self::Count | Self::Value => true,
            Self::Length | Self::Expression => false,
        }
    }

    /// Number and types of the arguments; an error is one that the reference doesn't catch.
    pub(super) fn check(self, arguments: &[Expression]) -> Result<(), CompileError> {
        let wanted = match self {
            Self::Length | Self::Count | Self::Value => 1,
            Self::Expression => 2,
        };
        let fits = |argument: &Expression| match argument {
            Expression::Query { query, .. } => self.takes_nodes() || query.is_singular(),
            Expression::Literal(_) => !self.takes_nodes(),
            Expression::Call(function, _) => !self.takes_nodes() && function.returns_value(),
            Expression::Not(_) | Expression::And(..) | Expression::Or(..) | Expression::Compare(..) => false,
        };
        if arguments.len() == wanted && arguments.iter().all(fits) {
            return Ok(());
        }
        Err(CompileError::Raises(
            "a function with wrong arguments in a filter raises in the reference".to_owned(),
        ))
    }
}

/// Bytes of text that are read in the time of a step.
const TEXT_BYTES_PER_STEP: usize = 64;
const EXPRESSIONS: &str = "this version doesn't know match() and search() in a filter";
const COUNTED_SCALAR: &str = "count(@) and value(@) of a scalar raise in the reference";

/// What an expression is worth.
#[derive(Clone, Debug)]
enum Worth<'a> {
    /// RFC 9535's Nothing.
    Nothing,
    Nodes(Vec<Node<'a>>),
    One(Scalar<'a>),
}

/// A single value.
#[derive(Clone, Debug)]
enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(Cow<'a, BigInt>),
    Float(f64),
    Text(Cow<'a, str>),
    Object(Node<'a>),
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
struct Place<'c, 'a> {
    context: &'c Context<'a>,
    steps: &'c Steps,
    root: Node<'a>,
    current: Node<'a>,
}

impl Expression {
    /// Why evaluating it raises for some identity, or can't be done here.
    pub(super) fn may_raise(&self) -> Option<String> {
        match self {
            Self::Literal(_) => None,
            Self::Query { query, .. } => query.filters().find_map(Self::may_raise),
            Self::Call(Function::Expression, _) => Some(EXPRESSIONS.to_owned()),
            Self::Call(function, arguments) => {
                let bare = |argument: &Self| matches!(argument, Self::Query { from_root: false, query } if query.segments.is_empty());
                if function.takes_nodes() && arguments.iter().any(bare) {
                    return Some(COUNTED_SCALAR.to_owned());
                }
                arguments.iter().find_map(Self::may_raise)
            }
            Self::Not(part) => part.may_raise(),
            Self::And(left, right) | Self::Or(left, right) | Self::Compare(left, _, right) => {
                left.may_raise().or_else(|| right.may_raise())
            }
        }
    }

    /// Whether the filter selects a node.
    pub(super) fn test<'a>(
        &self,
        context: &Context<'a>,
        steps: &Steps,
        root: Node<'a>,
        current: Node<'a>,
    ) -> Result<bool, Raised> {
        // Filters count and compare whole objects, so that even the answer of one that looks elsewhere may hang on it.
        if context.tree.is_some_and(DocumentTree::has_other) {
            return Err(Raised::unknown(UNWALKED));
        }
        Ok(truthy(&self.worth(Place { context, steps, root, current })?, context))
    }

    fn worth<'a>(&self, place: Place<'_, 'a>) -> Result<Worth<'a>, Raised> {
        spend(place.steps, 1)?;
        Ok(match self {
            Self::Literal(literal) => {
                if let Literal::Text(text) = literal {
                    spend(place.steps, text.len() / TEXT_BYTES_PER_STEP)?;
                }
                Worth::One(literal.scalar())
            }
            Self::Query { from_root, query } => return find(*from_root, query, place),
            Self::Call(function, arguments) => {
                let arguments =
                    arguments.iter().map(|argument| argument.worth(place)).collect::<Result<Vec<_>, _>>()?;
                return call(*function, arguments, place);
            }
            Self::Not(part) => truth(!truthy(&part.worth(place)?, place.context)),
            // Both sides are always evaluated, so that either may raise.
            Self::And(left, right) => {
                let (left, right) = (left.worth(place)?, right.worth(place)?);
                truth(truthy(&left, place.context) && truthy(&right, place.context))
            }
            Self::Or(left, right) => {
                let (left, right) = (left.worth(place)?, right.worth(place)?);
                truth(truthy(&left, place.context) || truthy(&right, place.context))
            }
            Self::Compare(left, comparator, right) => {
                let (left, right) = (unwrapped(left.worth(place)?), unwrapped(right.worth(place)?));
                truth(compare(&left, *comparator, &right, place)?)
            }
        })
    }
}

impl Literal {
    fn scalar<'a>(&self) -> Scalar<'a> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(b) => Scalar::Bool(*b),
            Self::Int(n) => Scalar::Int(Cow::Owned(BigInt::from_f64(*n).unwrap_or_default())),
            Self::Float(x) => Scalar::Float(*x),
            Self::Text(text) => Scalar::Text(Cow::Owned(text.clone())),
        }
    }
}

impl<'a> Scalar<'a> {
    fn of(node: Node<'a>) -> Self {
        match node {
            Node::Leaf(Leaf::Text(text)) => Self::Text(Cow::Borrowed(text)),
            Node::Leaf(Leaf::Value(value)) => match value {
                Value::Null => Self::Null,
                Value::Bool(b) => Self::Bool(*b),
                Value::Int(n) => Self::Int(Cow::Owned(BigInt::from(*n))),
                Value::BigInt(n) => Self::Int(Cow::Borrowed(n)),
                Value::Float(x) => Self::Float(*x),
                Value::Str(text) => Self::Text(Cow::Borrowed(text)),
            },
            Node::Root | Node::Environment | Node::Identity | Node::Traits | Node::Other => {
                Self::Object(node)
            }
        }
    }
}

fn truth<'a>(b: bool) -> Worth<'a> {
    Worth::One(Scalar::Bool(b))
}

/// A list of one node, as its value.
fn unwrapped(worth: Worth<'_>) -> Worth<'_> {
    match worth {
        Worth::Nodes(nodes) => match nodes.as_slice() {
            [node] => Worth::One(Scalar::of(*node)),
            _ => Worth::Nodes(nodes),
        },
        Worth::Nothing | Worth::One(_) => worth,
    }
}

fn find<'a>(from_root: bool, query: &Query, place: Place<'_, 'a>) -> Result<Worth<'a>, Raised> {
    // Within a path from `@`, `$` means where that path starts.
    let start = if from_root { place.root } else { place.current };
    if !start.is_container() {
        return Ok(if query.segments.is_empty() {
            Worth::One(Scalar::of(start))
        } else {
            Worth::Nodes(Vec::new())
        });
    }
    let mut nodes = Vec::new();
    let _: ControlFlow<()> = visit(place.context, place.steps, start, start, &query.segments, &mut |node| {
        nodes.push(node);
        ControlFlow::Continue(())
    })?;
    Ok(Worth::Nodes(nodes))
}

fn call<'a>(
    function: Function,
    arguments: Vec<Worth<'a>>,
    place: Place<'_, 'a>,
) -> Result<Worth<'a>, Raised> {
    let Some(argument) = arguments.into_iter().next() else { return Ok(Worth::Nothing) };
    let number = |n: usize| Worth::One(Scalar::Int(Cow::Owned(BigInt::from(n))));
    Ok(match function {
        Function::Expression => return Err(Raised::unknown(EXPRESSIONS)),
        Function::Length => match unwrapped(argument) {
            Worth::One(Scalar::Text(text)) => number(length(&text, place)?),
            Worth::One(Scalar::Object(node)) => number(children(place.context, place.steps, node)?.len()),
            Worth::One(Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_))
            | Worth::Nothing
            | Worth::Nodes(_) => Worth::Nothing,
        },
        Function::Count => match argument {
            Worth::Nodes(nodes) => number(nodes.len()),
            // Python's len() of the text that stands where nodes should.
            Worth::One(Scalar::Text(text)) => number(length(&text, place)?),
            Worth::Nothing | Worth::One(_) => return Err(Raised::new(COUNTED_SCALAR)),
        },
        Function::Value => match argument {
            Worth::Nodes(nodes) if nodes.len() == 1 => unwrapped(Worth::Nodes(nodes)),
            Worth::Nodes(_) => Worth::Nothing,
            Worth::One(Scalar::Text(text)) if length(&text, place)? != 1 => Worth::Nothing,
            Worth::Nothing | Worth::One(_) => return Err(Raised::new(COUNTED_SCALAR)),
        },
    })
}

/// Python's truth, but null is true and Nothing false.
fn truthy(worth: &Worth<'_>, context: &Context<'_>) -> bool {
    match worth {
        Worth::Nothing => false,
        Worth::Nodes(nodes) => !nodes.is_empty(),
        Worth::One(scalar) => match scalar {
            Scalar::Null => true,
            Scalar::Bool(b) => *b,
            Scalar::Int(n) => **n != BigInt::ZERO,
            Scalar::Float(x) => *x != 0.0,
            Scalar::Text(text) => !text.is_empty(),
            Scalar::Object(Node::Traits) => !(context.traits.is_empty() && context.system_traits.is_empty()),
            Scalar::Object(_) => true,
        },
    }
}

fn compare<'a>(
    left: &Worth<'a>,
    comparator: Comparator,
    right: &Worth<'a>,
    place: Place<'_, 'a>,
) -> Result<bool, Raised> {
    Ok(match comparator {
        Comparator::Equal => equal(left, right, place)?,
        Comparator::NotEqual => !equal(left, right, place)?,
        Comparator::Less => less(left, right),
        Comparator::Greater => less(right, left),
        Comparator::LessOrEqual => less(left, right) || equal(left, right, place)?,
        Comparator::GreaterOrEqual => less(right, left) || equal(left, right, place)?,
    })
}

/// No nodes and Nothing are equal, to each other and to themselves.
fn equal<'a>(left: &Worth<'a>, right: &Worth<'a>, place: Place<'_, 'a>) -> Result<bool, Raised> {
    Ok(match (left, right) {
        (Worth::One(left), Worth::One(right)) => match (left, right) {
            (Scalar::Bool(a), Scalar::Bool(b)) => a == b,
            (Scalar::Bool(_), _) | (_, Scalar::Bool(_)) => false,
            _ => return python_equal(left, right, place),
        },
        (Worth::Nothing | Worth::Nodes(_), Worth::Nothing | Worth::Nodes(_)) => true,
        (Worth::One(_), Worth::Nothing | Worth::Nodes(_))
        | (Worth::Nothing | Worth::Nodes(_), Worth::One(_)) => false,
    })
}

/// Python's `==`, for which `True == 1`.
fn python_equal<'a>(left: &Scalar<'a>, right: &Scalar<'a>, place: Place<'_, 'a>) -> Result<bool, Raised> {
    Ok(match (left, right) {
        (Scalar::Null, Scalar::Null) => true,
        (Scalar::Text(a), Scalar::Text(b)) => a == b,
        (Scalar::Object(a), Scalar::Object(b)) => return objects_equal(*a, *b, place),
        _ => numbers(left, right).is_some_and(|ordering| ordering == Some(Ordering::Equal)),
    })
}

/// Two objects, whatever the order of their names.
fn objects_equal<'a>(left: Node<'a>, right: Node<'a>, place: Place<'_, 'a>) -> Result<bool, Raised> {
    let (left, right) =
        (children(place.context, place.steps, left)?, children(place.context, place.steps, right)?);
    if left.len() != right.len() {
        return Ok(false);
    }
    let right: HashMap<&str, Node<'a>> = right.into_iter().collect();
    for (name, value) in left {
        let Some(other) = right.get(name) else { return Ok(false) };
        let same = matches!((value, *other), (Node::Leaf(Leaf::Value(a)), Node::Leaf(Leaf::Value(b)))
            if std::ptr::eq(a, b) || place.context.tree.is_some() && both_nan(a, b)); // Python's identity
        if !(same || python_equal(&Scalar::of(value), &Scalar::of(*other), place)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The characters of a text, for the price of counting them.
fn length(text: &str, place: Place<'_, '_>) -> Result<usize, Raised> {
    spend(place.steps, text.len() / TEXT_BYTES_PER_STEP)?;
    Ok(text.chars().count())
}

/// A dict equals one that holds the same NaN, and all of a document are one object of Python's.
fn both_nan(left: &Value, right: &Value) -> bool {
    matches!((left, right), (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan())
}

/// Text with text, numbers (bools among them) with numbers; anything else isn't ordered.
fn less(left: &Worth<'_>, right: &Worth<'_>) -> bool {
    let (Worth::One(left), Worth::One(right)) = (left, right) else { return false };
    if let (Scalar::Text(a), Scalar::Text(b)) = (left, right) {
        return a < b;
    }
    numbers(left, right).is_some_and(|ordering| ordering == Some(Ordering::Less))
}

/// How two numbers compare, exactly; `None` when one isn't a number, `Some(None)` beside NaN.
fn numbers(left: &Scalar<'_>, right: &Scalar<'_>) -> Option<Option<Ordering>> {
    let (left, right) = (number(left)?, number(right)?);
    Some(match (&left, &right) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(b),
        (Number::Int(a), Number::Float(b)) => int_with_float(a, *b),
        (Number::Float(a), Number::Int(b)) => int_with_float(b, *a).map(Ordering::reverse),
    })
}

enum Number<'a> {
    Int(Cow<'a, BigInt>),
    Float(f64),
}

fn number<'a>(scalar: &'a Scalar<'_>) -> Option<Number<'a>> {
    match scalar {
        Scalar::Bool(b) => Some(Number::Int(Cow::Owned(BigInt::from(u8::from(*b))))),
        Scalar::Int(n) => Some(Number::Int(Cow::Borrowed(n))),
        Scalar::Float(x) => Some(Number::Float(*x)),
        Scalar::Null | Scalar::Text(_) | Scalar::Object(_) => None,
    }
}

fn int_with_float(int: &BigInt, float: f64) -> Option<Ordering> {
    if float.is_infinite() {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = BigInt::from_f64(float.trunc())?; // None for NaN
    Some(int.cmp(&whole).then(0.0.partial_cmp(&float.fract())?))
}
