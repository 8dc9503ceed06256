//! A segment's document, made ready to judge millions of identities: operands parsed, paths and expressions compiled,
//! and what can't be judged found beforehand.

use std::borrow::Cow;

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, SegmentId};

use crate::operators::{Operator, PERCENTAGE_SPLIT};
use crate::property::Property;

/// How deep rules may be nested. The reference takes three of Python's 1,000 frames for each, and raises some rules
/// further down: how many hangs on its caller and on the innermost condition.
pub const RULE_DEPTH_MAX: usize = 320;

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

/// A rule as it is given. From a platform's rows all parts are there; in a document some may be absent, which raises in
/// the reference where they are reached.
pub(crate) struct RuleSource<'a> {
    pub(crate) rule_type: Option<&'a str>,
    pub(crate) conditions: Vec<ConditionSource<'a>>,
    pub(crate) rules: Vec<RuleSource<'a>>,
}

/// A condition as it is given.
pub(crate) struct ConditionSource<'a> {
    pub(crate) operator: Option<&'a str>,
    pub(crate) property: Given<'a>,
    pub(crate) value: Given<'a>,
}

/// A part of a condition.
pub(crate) enum Given<'a> {
    Absent,
    Null,
    Text(Cow<'a, str>),
}

impl Given<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<'a> From<&'a Option<String>> for Given<'a> {
    fn from(text: &'a Option<String>) -> Self {
        text.as_deref().map_or(Self::Null, |text| Self::Text(text.into()))
    }
}

impl<'a> From<&'a Rule> for RuleSource<'a> {
    fn from(rule: &'a Rule) -> Self {
        let condition = |condition: &'a Condition| ConditionSource {
            operator: Some(&condition.operator),
            property: (&condition.property).into(),
            value: (&condition.value).into(),
        };
        Self {
            rule_type: Some(match &rule.rule_type {
                RuleType::All => "ALL",
                RuleType::Any => "ANY",
                RuleType::None => "NONE",
                RuleType::Unknown(name) => name,
            }),
            conditions: rule.conditions.iter().map(condition).collect(),
            rules: rule.rules.iter().map(Self::from).collect(),
        }
    }
}

impl CompiledSegment {
    /// Compiles a document. Never fails: what can't be judged is said by [`Self::unsupported`].
    #[must_use]
    pub fn compile(doc: &SegmentDoc) -> Self {
        let rules: Vec<_> = doc.rules.iter().map(RuleSource::from).collect();
        Self::of_source(doc.id.clone(), &rules, doc.invalid.clone())
    }

    /// `invalid` is why the rules can't be understood, if so.
    pub(crate) fn of_source(id: SegmentId, rules: &[RuleSource<'_>], invalid: Option<String>) -> Self {
        let mut compiler = Compiler { segment_key: id.as_str(), unsupported: None, too_deep: false };
        let rules = compiler.rules(rules, "", 1);
        let unreadable = match (invalid, compiler.too_deep) {
            (Some(reason), _) => Some(reason),
            (None, true) => Some(format!("rules are nested more than {RULE_DEPTH_MAX} deep")),
            (None, false) => None,
        };
        let unsupported = unreadable.clone().or(compiler.unsupported);
        Self { id, rules, unsupported, unreadable }
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
    fn rules(&mut self, rules: &[RuleSource<'_>], parent: &str, depth: usize) -> Vec<CompiledRule> {
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

    fn rule(&mut self, rule: &RuleSource<'_>, path: &str, depth: usize) -> CompiledRule {
        let group_type = match rule.rule_type {
            Some("ALL") => GroupType::All,
            Some("ANY") => GroupType::Any,
            Some("NONE") => GroupType::None,
            Some(name) => {
                self.refuse(|| format!("{path}: unknown rule type '{name}'"));
                GroupType::Unknown(name.into())
            }
            None => {
                // A rule of which no group has anything in it is never asked for its type.
                if !rule.conditions.is_empty() || !rule.rules.is_empty() {
                    self.refuse(|| format!("{path}: a rule without a type raises in the reference"));
                }
                GroupType::Unknown("".into())
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

    fn condition(&mut self, condition: &ConditionSource<'_>, path: &str) -> CompiledCondition {
        let name = condition.operator.unwrap_or_default();
        let property = match (&condition.property, condition.operator) {
            (Given::Absent, _) => Property::compile(None, false),
            (Given::Null | Given::Text(_), None) => {
                Property::Raises("a condition without an operator raises in the reference".to_owned())
            }
            (given @ (Given::Null | Given::Text(_)), Some(name)) => {
                Property::compile(given.text(), name == PERCENTAGE_SPLIT)
            }
        };
        let (operator, reason) = match &condition.value {
            Given::Absent => Operator::compile_absent(name, self.segment_key),
            given @ (Given::Null | Given::Text(_)) => Operator::compile(name, given.text(), self.segment_key),
        };
        // The property is resolved first, so its reason goes first.
        if let Some(reason) = property.unsupported().map(str::to_owned).or(reason) {
            self.refuse(|| {
                let on = condition.property.text().unwrap_or_default();
                format!("{path}: {name} on '{on}': {reason}")
            });
        }
        let text = |given: &Given<'_>| given.text().map(str::to_owned);
        let source = Condition {
            operator: name.to_owned(),
            property: text(&condition.property),
            value: text(&condition.value),
        };
        CompiledCondition { source, property, operator }
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.unsupported.get_or_insert_with(reason);
    }
}
