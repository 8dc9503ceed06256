//! JSONPath. (Filled in by the next change.)
use crate::{context::Context, judge::Raised};
use rollcall_model::Value;
pub(crate) enum Leaf<'a> {
    Value(&'a Value),
    Text(&'a str),
}
#[derive(Debug)]
pub(crate) enum CompileError {
    Syntax,
    Raises(String),
}
#[derive(Clone, Debug)]
pub(crate) struct Query(Vec<String>);
impl Query {
    pub(crate) fn compile(text: &str) -> Result<Self, CompileError> {
        let names: Vec<String> = text[2..].split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(CompileError::Syntax);
        }
        if text.contains('?') {
            return Err(CompileError::Raises("filter".into()));
        }
        Ok(Self(names))
    }
    pub(crate) fn unsupported(&self) -> Option<String> {
        (self.0[0] == "flags").then(|| "flags".to_owned())
    }
    pub(crate) fn first_leaf<'a>(&self, context: &Context<'a>) -> Result<Option<Leaf<'a>>, Raised> {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        Ok(match names.as_slice() {
            ["identity", "identifier"] => Some(Leaf::Text(context.identifier)),
            ["identity", "key"] => Some(Leaf::Text(context.identity_key)),
            ["environment", "key"] => Some(Leaf::Text(context.environment_key)),
            ["environment", "name"] => Some(Leaf::Text(context.environment_name)),
            ["identity", "traits", key] => context.trait_value(key).map(Leaf::Value),
            _ => None,
        })
    }
}
