//! Why an identity is or isn't in a segment: the rule tree with what each condition found and said.

use serde::Serialize;

use crate::compile::{CompiledCondition, CompiledRule, CompiledSegment, GroupType};
use crate::context::Context;
use crate::judge::Raised;
use crate::steps::Steps;

/// The whole tree. Every condition is decided, also those that the verdict doesn't need.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explanation {
    /// The segment.
    pub segment_id: String,
    /// Whether the identity is in it; null where the reference raises.
    pub verdict: Option<bool>,
    /// What raised, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised: Option<String>,
    /// Why no identity is judged by it, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
    /// The top-level rules; all must hold.
    pub rules: Vec<RuleExplanation>,
}

/// A rule: its two groups, each combined by its type, must both hold.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RuleExplanation {
    /// `ALL`, `ANY`, `NONE`, or what stands there.
    #[serde(rename = "type")]
    pub rule_type: String,
    /// Whether it holds; null where that takes a part that raises.
    pub verdict: Option<bool>,
    /// Its conditions.
    pub conditions: Vec<ConditionExplanation>,
    /// Its sub-rules.
    pub rules: Vec<RuleExplanation>,
}

/// A condition.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ConditionExplanation {
    /// Where it looks; null or blank for the identity's key.
    pub property: Option<String>,
    /// The operator.
    pub operator: String,
    /// The operand as it is stored.
    pub operand: Option<String>,
    /// What was found there, as text after coercion; null when nothing was.
    pub found: Option<String>,
    /// Its type after coercion: `none`, `bool`, `int`, `float` or `str`.
    pub found_type: Option<&'static str>,
    /// What the operand becomes beside that type; null when it can't be cast or plays no part.
    pub operand_cast: Option<String>,
    /// Whether it holds; null where the reference raises.
    pub verdict: Option<bool>,
    /// What raised, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised: Option<String>,
}

impl CompiledSegment {
    /// Explains the verdict on an identity.
    #[must_use]
    pub fn explain(&self, context: &Context<'_>) -> Explanation {
        let (verdict, raised) = split(self.judge(context));
        Explanation {
            segment_id: self.id().to_string(),
            verdict,
            raised,
            unsupported: self.unsupported().map(str::to_owned),
            rules: self.rules().iter().map(|rule| rule.explain(context)).collect(),
        }
    }
}

impl CompiledRule {
    fn explain(&self, context: &Context<'_>) -> RuleExplanation {
        let conditions: Vec<_> = self.conditions.iter().map(|condition| condition.explain(context)).collect();
        let rules: Vec<_> = self.rules.iter().map(|rule| rule.explain(context)).collect();
        let (rule_type, verdict) = match &self.group_type {
            GroupType::Unknown(name) => {
                (name.to_string(), (conditions.is_empty() && rules.is_empty()).then_some(true))
            }
            GroupType::All | GroupType::Any | GroupType::None => {
                let conditions =
                    combine(&self.group_type, conditions.iter().map(|condition| condition.verdict));
                let rules = combine(&self.group_type, rules.iter().map(|rule| rule.verdict));
                // A group that raises hides the other's verdict, as it does in the reference.
                (self.group_type.name().to_owned(), conditions.and_then(|a| rules.map(|b| a && b)))
            }
        };
        RuleExplanation { rule_type, verdict, conditions, rules }
    }
}

impl GroupType {
    fn name(&self) -> &str {
        match self {
            Self::All => "ALL",
            Self::Any => "ANY",
            Self::None => "NONE",
            Self::Unknown(name) => name,
        }
    }
}

/// A group's verdict from its parts', in order and no further than the reference goes.
fn combine(group_type: &GroupType, parts: impl ExactSizeIterator<Item = Option<bool>>) -> Option<bool> {
    if parts.len() == 0 {
        return Some(true);
    }
    let (stop_at, verdict) = match group_type {
        GroupType::All => (false, false),
        GroupType::Any => (true, true),
        GroupType::None => (true, false),
        GroupType::Unknown(_) => return None,
    };
    for part in parts {
        if part? == stop_at {
            return Some(verdict);
        }
    }
    Some(!verdict)
}

impl CompiledCondition {
    fn explain(&self, context: &Context<'_>) -> ConditionExplanation {
        // Each condition has all steps, so that one that is beyond them leaves the others explained.
        let subject = self.subject(context, &Steps::new());
        let (verdict, raised) = split(self.holds(context, &Steps::new()));
        let found = subject.as_ref().ok().filter(|subject| subject.type_name() != "none");
        ConditionExplanation {
            property: self.source.property.clone(),
            operator: self.source.operator.clone(),
            operand: self.source.value.clone(),
            found: found.and_then(|subject| subject.to_text().ok()).map(std::borrow::Cow::into_owned),
            found_type: subject.as_ref().ok().map(crate::subject::Subject::type_name),
            operand_cast: subject.as_ref().ok().and_then(|subject| self.operator.cast_operand(subject)),
            verdict,
            raised,
        }
    }
}

fn split(judged: Result<bool, Raised>) -> (Option<bool>, Option<String>) {
    match judged {
        Ok(verdict) => (Some(verdict), None),
        Err(Raised { reason, .. }) => (None, Some(reason)),
    }
}
