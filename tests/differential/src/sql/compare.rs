//! A group of cases: every segment on every identity, evaluator and SQL.

use std::fmt;

use rollcall_rules::CompiledSegment;
use rollcall_rules::sql::{Class, Predicate, Scope};

use super::ask::Verdict;
use super::server::Server;
use crate::case::{Answer, Case};

/// Cases whose segments are asked in one query. The engine's time goes with the length of a query, and is paid once for
/// all the identities; larger groups gain nothing.
pub const GROUP_CASES: usize = 32;

/// What was compared in a group.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pairs of a segment and an identity on which both answered.
    pub comparisons: u64,
    /// Pairs on which the evaluator raised.
    pub raised: u64,
    /// The first of each segment.
    pub violations: Vec<Violation>,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not what the class promises.
    Wrong,
    /// An exception of the engine, or a value that isn't UInt8.
    Failed,
    /// Unsupported to one and not to the other.
    Class,
}

/// A promise that SQL breaks.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is wrong.
    pub kind: Kind,
    /// The segment with the identity, as one case.
    pub case: Case,
    /// The evaluator's verdict.
    pub judged: Answer,
    /// SQL's verdict.
    pub verdict: Verdict,
    /// The predicate.
    pub predicate: Predicate,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: evaluator {:?}, SQL {:?}", self.kind, self.judged, self.verdict)?;
        writeln!(f, "  {:?}: {}", self.predicate.class, self.predicate.condition)?;
        for param in &self.predicate.params {
            writeln!(f, "    {} = {:?}", param.name, param.value)?;
        }
        write!(f, "  {}", self.case.json())
    }
}

/// A segment of a group, compiled.
struct Asked<'a> {
    case: &'a Case,
    segment: CompiledSegment,
    predicate: Predicate,
}

impl<'a> Asked<'a> {
    fn of(number: usize, case: &'a Case) -> Self {
        let segment = CompiledSegment::compile(&case.segment());
        let prefix = format!("p{number}_");
        let predicate = segment.predicate(&Scope {
            environment_key: &case.environment_key,
            environment_name: &case.environment_name,
            prefix: &prefix,
        });
        let foreign = predicate.params.iter().find(|param| !param.name.starts_with(&prefix));
        assert!(foreign.is_none(), "a parameter is not named with its prefix: {foreign:?}");
        Self { case, segment, predicate }
    }

    fn is_unsupported(&self) -> bool {
        matches!(self.predicate.class, Class::Unsupported(_))
    }

    /// This segment with another case's identity.
    fn with_identity(&self, other: &Case) -> Case {
        Case {
            identifier: other.identifier.clone(),
            identity_key: other.identity_key.clone(),
            traits: other.traits.clone(),
            system_traits: other.system_traits.clone(),
            ..self.case.clone()
        }
    }

    /// What the evaluator says of another case's identity in this segment's environment.
    fn judged(&self, other: &Case) -> Answer {
        let context = rollcall_rules::Context {
            environment_key: &self.case.environment_key,
            environment_name: &self.case.environment_name,
            ..other.context()
        };
        match self.segment.judge(&context) {
            Ok(verdict) => Answer::Is(verdict),
            Err(raised) => Answer::Raises(raised.reason),
        }
    }

    /// What is wrong with a verdict.
    fn wrong(&self, judged: &Answer, verdict: &Verdict) -> Option<Kind> {
        let (Answer::Is(judged), Verdict::Is(verdict)) = (judged, verdict) else {
            return matches!(verdict, Verdict::Failed(_)).then_some(Kind::Failed);
        };
        let holds = match &self.predicate.class {
            Class::Exact => judged == verdict,
            Class::Superset(_) => *verdict || !judged,
            Class::Unsupported(_) => true,
        };
        (!holds).then_some(Kind::Wrong)
    }

    fn violation(&self, kind: Kind, other: &Case, judged: Answer, verdict: Verdict) -> Violation {
        Violation {
            kind,
            case: self.with_identity(other),
            judged,
            verdict,
            predicate: self.predicate.clone(),
        }
    }

    /// Both or none must call it unsupported.
    fn class_violation(&self) -> Option<Violation> {
        let differs = self.is_unsupported() != self.segment.unsupported().is_some();
        differs.then(|| {
            let reason = format!("unsupported to the evaluator: {:?}", self.segment.unsupported());
            self.violation(Kind::Class, self.case, self.judged(self.case), Verdict::Failed(reason))
        })
    }
}

/// Compares the segments of some cases on the identities of some, which the server holds under these ids.
///
/// # Panics
/// If the engine is gone.
pub async fn compare(server: &Server, segments: &[Case], identities: &[Case], ids: &[String]) -> Comparison {
    let all: Vec<Asked<'_>> = segments.iter().enumerate().map(|(n, case)| Asked::of(n, case)).collect();
    let mut comparison = Comparison::default();
    comparison.violations.extend(all.iter().filter_map(Asked::class_violation));
    let asked: Vec<&Asked<'_>> = all.iter().filter(|asked| !asked.is_unsupported()).collect();
    let predicates: Vec<&Predicate> = asked.iter().map(|asked| &asked.predicate).collect();
    let answers = server.verdicts(&predicates, ids).await;
    for (asked, verdicts) in asked.iter().zip(answers) {
        let mut violation = None;
        for (identity, verdict) in identities.iter().zip(verdicts) {
            let judged = asked.judged(identity);
            match judged {
                Answer::Is(_) => comparison.comparisons += 1,
                Answer::Raises(_) => comparison.raised += 1,
            }
            if violation.is_none()
                && let Some(kind) = asked.wrong(&judged, &verdict)
            {
                violation = Some(asked.violation(kind, identity, judged, verdict));
            }
        }
        comparison.violations.extend(violation);
    }
    comparison
}

/// The first of some cases that is a violation of a kind on its own identity, with that violation.
///
/// # Panics
/// If the engine is gone.
pub async fn first_violation(server: &mut Server, cases: &[Case], kind: Kind) -> Option<(usize, Violation)> {
    if cases.is_empty() {
        return None;
    }
    let ids = server.hold(cases).await;
    for start in (0..cases.len()).step_by(GROUP_CASES) {
        let group = start..(start + GROUP_CASES).min(cases.len());
        let all: Vec<Asked<'_>> =
            cases[group.clone()].iter().enumerate().map(|(n, case)| Asked::of(n, case)).collect();
        let asked: Vec<(usize, &Asked<'_>)> =
            all.iter().enumerate().filter(|(_, asked)| !asked.is_unsupported()).collect();
        let predicates: Vec<&Predicate> = asked.iter().map(|(_, asked)| &asked.predicate).collect();
        let answers = server.verdicts(&predicates, &ids[group]).await;
        let classes = all.iter().enumerate().filter_map(|(n, asked)| Some((n, asked.class_violation()?)));
        let verdicts = asked.iter().zip(answers).filter_map(|((n, asked), mut verdicts)| {
            let (verdict, judged) = (verdicts.swap_remove(*n), asked.judged(asked.case));
            let kind = asked.wrong(&judged, &verdict)?;
            Some((*n, asked.violation(kind, asked.case, judged, verdict)))
        });
        let found = classes.chain(verdicts).find(|(_, violation)| violation.kind == kind);
        if let Some((n, violation)) = found {
            return Some((start + n, violation));
        }
    }
    None
}
