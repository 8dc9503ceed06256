//! A context and a segment from one line of JSON, in the reference's own shape, as its `json.loads` reads it.
//!
//! ```text
//!                                                    ┌ context ─▶ Context with a DocumentTree, identity.key filled in
//! {"context": {"environment", "identity"},  ──Parser─┤
//!  "segment": {"key", "name", "rules"}}              └ segment ─▶ known text? ─▶ CompiledSegment of before
//!                                                                 └ else compiled, and remembered
//! ```
//!
//! What is outside the reference's types is an error that says where, unless what the reference does with it is certain
//! and cheap to do; keys that aren't read here (`features`, `metadata`, …) may stand anywhere. A part whose absence makes
//! the reference raise only where it is reached is no error: such a segment compiles and raises there as well.
//!
//! A segment's text is looked up before it is read: equal texts are equal segments, and text that once was a whole
//! object is one wherever an object may begin.

mod context;
mod known;
mod segment;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::compile::CompiledSegment;
use crate::context::Context;
use crate::python::{Failure, Json, Parser, Text};
use crate::sql::{Predicate, Scope};
use context::ContextDocument;
use known::KnownSegments;

/// Lists and objects open at once in a line. Python's limit is about this, depending on its caller.
const LINE_DEPTH_MAX: usize = 980;

/// What is wrong with a line, and where. Names keys, never values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineError {
    /// What.
    pub reason: String,
}

impl LineError {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    fn missing(path: &str) -> Self {
        Self::new(format!("{path}: missing"))
    }

    /// Something stands where something else should.
    fn unfit(path: &str, json: &Json<'_>, wanted: &str) -> Self {
        Self::new(format!("{path}: {} instead of {wanted}", json.kind()))
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for LineError {}

/// Reads lines, and remembers their segments.
#[derive(Debug, Default)]
pub struct LineReader {
    known: KnownSegments,
}

/// A context and the segment to judge it by.
#[derive(Debug)]
pub struct JudgeLine<'l> {
    context: ContextDocument<'l>,
    /// The segment.
    pub segment: Arc<CompiledSegment>,
}

impl JudgeLine<'_> {
    /// The context, its identity key filled in.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        self.context.context()
    }
}

/// A segment and the environment to compile it for.
#[derive(Debug)]
pub struct PredicateLine<'l> {
    environment_key: Cow<'l, str>,
    environment_name: Cow<'l, str>,
    /// The segment.
    pub segment: Arc<CompiledSegment>,
}

impl PredicateLine<'_> {
    /// The segment as a ClickHouse predicate; `prefix` is what its parameters' names begin with.
    #[must_use]
    pub fn predicate(&self, prefix: &str) -> Predicate {
        let Self { environment_key, environment_name, .. } = self;
        self.segment.predicate(&Scope { environment_key, environment_name, prefix })
    }
}

impl LineReader {
    /// Reads a line to be judged.
    ///
    /// # Errors
    /// The line is no JSON, or not of the shape above.
    pub fn judge_line<'l>(&mut self, line: &'l [u8]) -> Result<JudgeLine<'l>, LineError> {
        let (context, segment) = self.parts(line)?;
        Ok(JudgeLine { context: ContextDocument::read(context)?, segment })
    }

    /// Reads a line of whose context only the environment matters.
    ///
    /// # Errors
    /// As [`Self::judge_line`].
    pub fn predicate_line<'l>(&mut self, line: &'l [u8]) -> Result<PredicateLine<'l>, LineError> {
        let (context, segment) = self.parts(line)?;
        let (environment_key, environment_name) = context::environment(context)?;
        Ok(PredicateLine { environment_key, environment_name, segment })
    }

    fn parts<'l>(&mut self, line: &'l [u8]) -> Result<(Json<'l>, Arc<CompiledSegment>), LineError> {
        let text = std::str::from_utf8(line)
            .map_err(|error| LineError::new(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        let mut parser = Parser::new(text, LINE_DEPTH_MAX);
        let (mut context, mut segment) = (None, None);
        let read = |failure: Failure| LineError::new(format!("not the JSON of a case: {failure}"));
        parser.skip_space();
        parser
            .entries(|parser, key| {
                match &key {
                    Text::Whole(key) if key == "context" => context = Some(parser.value(1)?),
                    Text::Whole(key) if key == "segment" => segment = Some(self.segment(parser)?),
                    Text::Whole(_) | Text::Halves(_) => {
                        parser.value(1)?;
                    }
                }
                Ok(())
            })
            .map_err(read)?;
        parser.end().map_err(read)?;
        let context = context.ok_or_else(|| LineError::missing("context"))?;
        let segment = segment.ok_or_else(|| LineError::missing("segment"))?;
        Ok((context, segment?))
    }

    /// The value that comes next. What is wrong with its shape waits until the line has been read: its JSON goes first,
    /// and the key may stand twice.
    fn segment<'l>(
        &mut self,
        parser: &mut Parser<'l>,
    ) -> Result<Result<Arc<CompiledSegment>, LineError>, Failure> {
        let rest = parser.rest();
        if let Some((length, segment)) = self.known.find(rest) {
            parser.skip(length);
            return Ok(Ok(segment));
        }
        let json = parser.value(1)?;
        let raw = &rest[..rest.len() - parser.rest().len()];
        Ok(segment::compile(&json).map(|segment| self.known.remember(raw, segment)))
    }
}

/// The entries of an object.
fn object<'l>(json: Json<'l>, path: &str) -> Result<Vec<(Text<'l>, Json<'l>)>, LineError> {
    match json {
        Json::Object(entries) => Ok(entries),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Text(_) | Json::List { .. } => {
            Err(LineError::unfit(path, &json, "an object"))
        }
    }
}

#[cfg(test)]
mod tests;
