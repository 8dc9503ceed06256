//! A segment's document, made ready to judge millions of identities: operands parsed, paths and expressions compiled,
//! and what can't be judged found beforehand.

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, SegmentId};

use crate::operators::{Operator, PERCENTAGE_SPLIT};
use crate::property::Property;

/// How deep rules may be nested. The reference recurses, and raises from about this depth on.
pub const RULE_DEPTH_MAX: usize = 490;

/// A segment that can be judged.
#[derive(Clone, Debug)]
pub struct CompiledSegment {
    id: SegmentId,
    rules: Vec<CompiledRule>,
    unsupported: Option<String>,
    unreadable: Option<String>,
}

/// A rule: two groups of one type.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    pub(crate) group_type: GroupType,
    pub(crate) conditions: Vec<CompiledCondition>,
    pub(crate) rules: Vec<CompiledRule>,
}

/// How the parts of a group combine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GroupType {
    All,
    Any,
    None,
    /// The reference raises on a group of it that isn't empty.
    Unknown(Box<str>),
}

/// A condition: where to look, and what must hold there.
#[derive(Clone, Debug)]
pub(crate) struct CompiledCondition {
    pub(crate) source: Condition,
    pub(crate) property: Property,
    pub(crate) operator: Operator,
}

impl CompiledSegment {
    /// Compiles a document. Never fails: what can't be judged is said by [`Self::unsupported`].
    #[must_use]
    pub fn compile(doc: &SegmentDoc) -> Self {
        let mut compiler = Compiler { segment_key: doc.id.as_str(), unsupported: None, too_deep: false };
        let rules = compiler.rules(&doc.rules, "", 1);
        let unreadable = match (&doc.invalid, compiler.too_deep) {
            (Some(reason), _) => Some(reason.clone()),
            (None, true) => Some(format!("rules are nested more than {RULE_DEPTH_MAX} deep")),
            (None, false) => None,
        };
        let unsupported = unreadable.clone().or(compiler.unsupported);
        Self { id: doc.id.clone(), rules, unsupported, unreadable }
    }

    /// The segment's id.
    #[must_use]
    pub fn id(&self) -> &SegmentId {
        &self.id
    }

    /// Why this segment has neither members nor counts: the first of its conditions that the reference raises on for
    /// some identity, or that this version doesn't know, by rule path, operator and property.
    #[must_use]
    pub fn unsupported(&self) -> Option<&str> {
        self.unsupported.as_deref()
    }

    pub(crate) fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// Why the document isn't a rule tree at all.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }
}

struct Compiler<'a> {
    segment_key: &'a str,
    /// The first reason found, in document order.
    unsupported: Option<String>,
    too_deep: bool,
}

impl Compiler<'_> {
    fn rules(&mut self, rules: &[Rule], parent: &str, depth: usize) -> Vec<CompiledRule> {
        if depth > RULE_DEPTH_MAX && !rules.is_empty() {
            self.too_deep = true;
            return Vec::new();
        }
        rules
            .iter()
            .enumerate()
            .map(|(at, rule)| self.rule(rule, &format!("{parent}rules[{at}]"), depth))
            .collect()
    }

    fn rule(&mut self, rule: &Rule, path: &str, depth: usize) -> CompiledRule {
        let group_type = match &rule.rule_type {
            RuleType::All => GroupType::All,
            RuleType::Any => GroupType::Any,
            RuleType::None => GroupType::None,
            RuleType::Unknown(name) => {
                self.refuse(|| format!("{path}: unknown rule type '{name}'"));
                GroupType::Unknown(name.as_str().into())
            }
        };
        let conditions = rule
            .conditions
            .iter()
            .enumerate()
            .map(|(at, condition)| self.condition(condition, &format!("{path}.conditions[{at}]")))
            .collect();
        let rules = self.rules(&rule.rules, &format!("{path}."), depth + 1);
        CompiledRule { group_type, conditions, rules }
    }

    fn condition(&mut self, condition: &Condition, path: &str) -> CompiledCondition {
        let is_split = condition.operator == PERCENTAGE_SPLIT;
        let property = Property::compile(condition.property.as_deref(), is_split);
        let (operator, reason) =
            Operator::compile(&condition.operator, condition.value.as_deref(), self.segment_key);
        // The property is resolved first, so its reason goes first.
        if let Some(reason) = property.unsupported().map(str::to_owned).or(reason) {
            self.refuse(|| {
                let on = condition.property.as_deref().unwrap_or_default();
                format!("{path}: {} on '{on}': {reason}", condition.operator)
            });
        }
        CompiledCondition { source: condition.clone(), property, operator }
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.unsupported.get_or_insert_with(reason);
    }
}
