//! `preview`: whom a draft rule would match, and what that would change in a segment.
//!
//! ```text
//! draft ─compile─▶ predicate ─ Exact ──────▶ the mirror counts and lists (one query)
//!                            ├ Superset ───▶ the mirror's candidates, page by page ─▶ evaluator ─▶ counts, a page
//!                            └ Unsupported ▶ the reason, and no number
//! ```
//!
//! Exact either way: a superset holds every match, and the evaluator, which also judges live changes, has the last
//! word on each. Memory is a page of candidates and a page of the answer, however many identities there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{
    Candidate, EnvironmentDoc, Fault, Listed, ListedPage, Rule, SegmentDoc, Sieve, SiftedCounts, Sighting,
    Traits,
};
use rollcall_rules::sql::{Class, Predicate, Scope};
use rollcall_rules::{CompiledSegment, Context};
use serde::Serialize;

use crate::wiring::Mirror;

/// The names of a predicate's parameters begin with it, apart from those of the mirror's own.
const PARAM_PREFIX: &str = "draft_";
/// A server takes no longer text in one field of a request (`http_max_field_value_size`, 128 KiB by default).
const FIELD_BYTES_MAX: usize = 100_000;
/// Candidates of one page at most, and of the first.
const CANDIDATES_MAX: u32 = 10_000;
const CANDIDATES_FIRST: u32 = 1_000;
/// What the traits of a page of candidates should take, about.
const CANDIDATE_BYTES: u64 = 16 << 20;
/// The operator that hashes a segment's key.
const SPLIT: &str = "PERCENTAGE_SPLIT";

/// What is asked.
#[derive(Debug)]
pub(crate) struct Preview<'a> {
    pub(crate) compiled: Arc<CompiledSegment>,
    pub(crate) environment: &'a EnvironmentDoc,
    /// Compared with whose members.
    pub(crate) against: Option<&'a SegmentDoc>,
    pub(crate) page: ListedPage,
}

/// How the answer was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "class", content = "reason", rename_all = "snake_case")]
pub(crate) enum Method {
    /// Counted by the mirror.
    Exact,
    /// Decided one by one, for this reason.
    Superset(String),
    /// Not judged, for this reason.
    Unsupported(String),
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Previewed {
    #[serde(flatten)]
    pub(crate) method: Method,
    /// Of the whole environment; only beside the first page.
    #[serde(flatten)]
    pub(crate) counts: Option<Counts>,
    pub(crate) identities: Vec<Listing>,
    /// Where the next page begins; none after the last.
    pub(crate) cursor: Option<String>,
}

/// How many of each kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Counts {
    matching: u64,
    #[serde(flatten)]
    moves: Option<Moves>,
    /// Identities that were decided one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<u64>,
    /// Identities on which judging raises.
    #[serde(skip_serializing_if = "Option::is_none")]
    raised: Option<RaisedOn>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Moves {
    entering: u64,
    leaving: u64,
    staying: u64,
}

/// A draft that raises would be suspended: it would have no members at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct RaisedOn {
    identities: u64,
    /// The first of them.
    id: String,
    identifier: String,
    reason: String,
}

/// An identity of the page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Listing {
    id: String,
    identifier: String,
    identity_key: String,
    /// What a segment compared with would see.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
}

impl Preview<'_> {
    /// Asks the mirror.
    ///
    /// # Errors
    /// A [`Fault`] of the mirror.
    pub(crate) async fn run(&self, mirror: &Mirror) -> Result<Previewed, Fault> {
        let Predicate { class, condition, params } = self.compiled.predicate(&Scope {
            environment_key: &self.environment.key,
            environment_name: &self.environment.name,
            prefix: PARAM_PREFIX,
        });
        let mut sieve = Sieve {
            environment_key: self.environment.key.clone(),
            condition,
            params: params.into_iter().map(|param| (param.name, param.value.http_text())).collect(),
            segment_id: self.against.map(|segment| segment.id.clone()),
        };
        match class {
            Class::Unsupported(reason) => Ok(Previewed {
                method: Method::Unsupported(reason),
                counts: None,
                identities: Vec::new(),
                cursor: None,
            }),
            Class::Exact | Class::Superset(_) if !fits(&sieve) => {
                sieve.condition = "1".to_owned();
                sieve.params.clear();
                self.decide(mirror, sieve, "its texts are too long for a query".to_owned()).await
            }
            Class::Exact => self.count(mirror, sieve).await,
            Class::Superset(reason) => self.decide(mirror, sieve, reason).await,
        }
    }

    /// The mirror's own answer.
    async fn count(&self, mirror: &Mirror, sieve: Sieve) -> Result<Previewed, Fault> {
        let limit = self.page.limit.saturating_add(1);
        let sifted = (mirror.sift)(sieve, ListedPage { limit, ..self.page.clone() }).await?;
        let counts = sifted.counts.map(|counts| self.counts(counts, None, None));
        Ok(self.answer(Method::Exact, counts, sifted.page))
    }

    /// The evaluator's answer on every candidate. A page that isn't the first is read no further than its end.
    async fn decide(&self, mirror: &Mirror, sieve: Sieve, reason: String) -> Result<Previewed, Fault> {
        let mut tally = Tally::default();
        let rows_wanted = self.page.limit as usize + 1;
        let mut after = self.page.after.clone();
        let mut limit = CANDIDATES_FIRST;
        loop {
            let page = (mirror.candidates)(sieve.clone(), after, limit).await?;
            let Some(last) = page.candidates.last() else { break };
            after = Some(last.sighting.id.clone());
            limit = next_limit(page.candidates.len(), page.bytes);
            let (compiled, environment) = (Arc::clone(&self.compiled), self.environment.clone());
            let judging = move || judge(&compiled, &environment, page.candidates);
            // Regular expressions may take their time; others are served meanwhile.
            let judged = tokio::task::spawn_blocking(judging).await;
            let judged =
                judged.map_err(|e| Fault::bug("the judging of candidates broke off").from_source(e))?;
            for (sighting, raised) in judged {
                tally.take(sighting, raised, self.page.listed, rows_wanted);
            }
            if self.page.after.is_some() && tally.page.len() >= rows_wanted {
                break;
            }
        }
        let Tally { counts, candidates, raised, page } = tally;
        let is_first = self.page.after.is_none();
        let counts = is_first.then(|| self.counts(counts, Some(candidates), raised));
        Ok(self.answer(Method::Superset(reason), counts, page))
    }

    fn counts(&self, counts: SiftedCounts, candidates: Option<u64>, raised: Option<RaisedOn>) -> Counts {
        let SiftedCounts { matching, entering, leaving } = counts;
        let staying = matching.saturating_sub(entering);
        let moves = self.against.map(|_| Moves { entering, leaving, staying });
        Counts { matching, moves, candidates, raised }
    }

    /// One row more than asked for says that there is a next page.
    fn answer(&self, method: Method, counts: Option<Counts>, mut page: Vec<Sighting>) -> Previewed {
        let limit = self.page.limit as usize;
        let has_more = page.len() > limit;
        page.truncate(limit);
        let cursor = page.last().filter(|_| has_more).map(|sighting| sighting.id.clone());
        let identities = page.into_iter().map(|sighting| self.listing(sighting)).collect();
        Previewed { method, counts, identities, cursor }
    }

    fn listing(&self, sighting: Sighting) -> Listing {
        let change = self.against.map(|_| match (sighting.holds, sighting.is_member) {
            (true, false) => "enter",
            (false, true) => "leave",
            (true, true) | (false, false) => "stay",
        });
        let Sighting { id, identifier, identity_key, .. } = sighting;
        Listing { id, identifier, identity_key, change }
    }
}

/// Whether rules hold a percentage split, whose verdict depends on the segment's key.
pub(crate) fn has_split(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| {
        rule.conditions.iter().any(|condition| condition.operator == SPLIT) || has_split(&rule.rules)
    })
}

fn fits(sieve: &Sieve) -> bool {
    sieve.condition.len() <= FIELD_BYTES_MAX
        && sieve.params.iter().all(|(_, text)| text.len() <= FIELD_BYTES_MAX)
}

/// As many as take about [`CANDIDATE_BYTES`], if the next are as large as these.
fn next_limit(rows: usize, bytes: u64) -> u32 {
    let each = (bytes / (rows as u64).max(1)).max(1);
    u32::try_from(CANDIDATE_BYTES / each).unwrap_or(CANDIDATES_MAX).clamp(1, CANDIDATES_MAX)
}

type Judged = (Sighting, Option<String>);

/// The evaluator's verdicts; where it raises, the reason.
fn judge(
    compiled: &CompiledSegment,
    environment: &EnvironmentDoc,
    candidates: Vec<Candidate>,
) -> Vec<Judged> {
    // The stored traits are merged already.
    let system_traits: Traits = BTreeMap::new();
    let verdicts = candidates.into_iter().map(|Candidate { sighting, traits }| {
        let context = Context {
            environment_key: &environment.key,
            environment_name: &environment.name,
            identifier: &sighting.identifier,
            identity_key: &sighting.identity_key,
            traits: &traits,
            system_traits: &system_traits,
            tree: None,
        };
        match compiled.judge(&context) {
            Ok(holds) => (Sighting { holds, ..sighting }, None),
            Err(raised) => (sighting, Some(raised.reason)),
        }
    });
    verdicts.collect()
}

/// What the candidates so far come to.
#[derive(Debug, Default)]
struct Tally {
    counts: SiftedCounts,
    candidates: u64,
    raised: Option<RaisedOn>,
    page: Vec<Sighting>,
}

impl Tally {
    fn take(&mut self, sighting: Sighting, raised: Option<String>, listed: Listed, rows_wanted: usize) {
        self.candidates += 1;
        if let Some(reason) = raised {
            let first = || RaisedOn {
                identities: 0,
                id: sighting.id.clone(),
                identifier: sighting.identifier.clone(),
                reason,
            };
            self.raised.get_or_insert_with(first).identities += 1;
            return;
        }
        self.counts.add(sighting.holds, sighting.is_member);
        if self.page.len() < rows_wanted && listed.covers(sighting.holds, sighting.is_member) {
            self.page.push(sighting);
        }
    }
}

#[cfg(test)]
mod tests {
    use rollcall_model::{Candidates, Condition, Fut, RuleType, Sifted, Value};

    use super::*;

    /// Identities `1` to `5000` with a trait `n`; every third is a member; 7 and 70 have a number that Python doesn't
    /// read. Its predicate holds for all, or those of even number.
    fn identities(even_only: bool) -> Vec<Candidate> {
        let mut all: Vec<_> = (1_i64..=5_000)
            .map(|n| {
                let value = if n == 7 || n == 70 { Value::Str("9".repeat(5_000)) } else { Value::Int(n) };
                Candidate {
                    sighting: Sighting {
                        id: n.to_string(),
                        identifier: format!("user{n}"),
                        identity_key: format!("env_user{n}"),
                        holds: !even_only || n % 2 == 0,
                        is_member: n % 3 == 0,
                    },
                    traits: Traits::from([("n".to_owned(), value)]),
                }
            })
            .collect();
        all.sort_by(|a, b| a.sighting.id.cmp(&b.sighting.id));
        all
    }

    fn mirror(all: Vec<Candidate>) -> Mirror {
        let all = Arc::new(all);
        let sifted = Arc::clone(&all);
        Mirror {
            sift: Box::new(move |_, page: ListedPage| -> Fut<'static, Sifted> {
                let mut counts = SiftedCounts::default();
                sifted.iter().for_each(|c| counts.add(c.sighting.holds, c.sighting.is_member));
                let after = page.after.clone().unwrap_or_default();
                let listed = sifted.iter().map(|c| c.sighting.clone()).filter(|s| s.id > after);
                let listed = listed.filter(|s| page.listed.covers(s.holds, s.is_member));
                let rows = listed.take(page.limit as usize).collect();
                let counts = page.after.is_none().then_some(counts);
                Box::pin(async move { Ok(Sifted { counts, page: rows }) })
            }),
            candidates: Box::new(move |_, after: Option<String>, limit| -> Fut<'static, Candidates> {
                let after = after.unwrap_or_default();
                let next = all.iter().filter(|c| c.sighting.id > after);
                let next = next.filter(|c| c.sighting.holds || c.sighting.is_member);
                let candidates: Vec<_> = next.take(limit as usize).cloned().collect();
                let bytes = candidates.len() as u64 * 10_000;
                Box::pin(async move { Ok(Candidates { candidates, bytes }) })
            }),
        }
    }

    fn sieve() -> Sieve {
        Sieve { environment_key: "env".into(), condition: "1".into(), params: Vec::new(), segment_id: None }
    }

    fn segment() -> SegmentDoc {
        let value = Some("4500".to_owned());
        let condition =
            Condition { operator: "GREATER_THAN".to_owned(), property: Some("n".to_owned()), value };
        SegmentDoc {
            id: "1".into(),
            project_id: "1".into(),
            name: String::new(),
            rules: vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: Vec::new() }],
            invalid: None,
            deleted: false,
        }
    }

    fn environment() -> EnvironmentDoc {
        EnvironmentDoc {
            id: "1".into(),
            key: "env".into(),
            name: "Production".into(),
            project_id: "1".into(),
            organisation_id: "1".into(),
            owner: "core".into(),
            called: Default::default(),
            composite_identity_key: true,
            deleted: false,
        }
    }

    /// All pages of an answer.
    async fn pages(
        exact: bool,
        mirror: &Mirror,
        listed: Listed,
        limit: u32,
    ) -> (Counts, Vec<(String, String)>) {
        let (against, environment) = (segment(), environment());
        let mut first = None;
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let preview = Preview {
                compiled: Arc::new(CompiledSegment::compile(&against)),
                environment: &environment,
                against: Some(&against),
                page: ListedPage { listed, limit, after: after.clone() },
            };
            let answer = match exact {
                true => preview.count(mirror, sieve()).await,
                false => preview.decide(mirror, sieve(), "why".to_owned()).await,
            };
            let Previewed { counts, identities, cursor, .. } = answer.expect("answers");
            assert_eq!(counts.is_some(), after.is_none(), "counts come with the first page alone");
            assert!(identities.len() <= limit as usize);
            first = first.or(counts);
            rows.extend(identities.into_iter().map(|i| (i.id, i.change.unwrap_or_default().to_owned())));
            after = cursor;
            if after.is_none() {
                return (first.expect("counts"), rows);
            }
        }
    }

    fn moves(all: &[Candidate], holds: impl Fn(&Sighting) -> Option<bool>) -> Vec<(String, String)> {
        let moves = all.iter().filter_map(|Candidate { sighting, .. }| {
            let change = match (holds(sighting)?, sighting.is_member) {
                (true, false) => "enter",
                (false, true) => "leave",
                (true, true) | (false, false) => return None,
            };
            Some((sighting.id.clone(), change.to_owned()))
        });
        moves.collect()
    }

    #[tokio::test]
    async fn candidates_are_decided_by_the_evaluator_page_by_page() {
        let all = identities(false);
        let raises = |s: &Sighting| s.id == "7" || s.id == "70";
        let holds = |s: &Sighting| (!raises(s)).then(|| s.id.parse::<i64>().is_ok_and(|n| n > 4_500));
        let expected = moves(&all, holds);
        for limit in [1_000, 300] {
            let (counts, rows) = pages(false, &mirror(all.clone()), Listed::Moving, limit).await;
            assert_eq!(rows, expected);
            assert_eq!((counts.matching, counts.candidates), (500, Some(5_000)));
            let count = |change: &str| expected.iter().filter(|(_, c)| c == change).count() as u64;
            let entering = count("enter");
            let expected = Moves { entering, leaving: count("leave"), staying: 500 - entering };
            assert_eq!(counts.moves, Some(expected));
            let raised = counts.raised.expect("raised");
            assert_eq!(
                (raised.identities, raised.id.as_str(), raised.identifier.as_str()),
                (2, "7", "user7")
            );
            assert!(raised.reason.contains("5000 digits"), "{raised:?}");
        }
    }

    #[tokio::test]
    async fn an_exact_predicate_is_counted_by_the_mirror_alone() {
        let all = identities(true);
        let expected = moves(&all, |s| Some(s.holds));
        for limit in [1_000, 300] {
            let (counts, rows) = pages(true, &mirror(all.clone()), Listed::Moving, limit).await;
            assert_eq!(rows, expected);
            let staying = 5_000 / 6;
            let expected = Moves { entering: 2_500 - staying, leaving: 1_666 - staying, staying };
            assert_eq!((counts.matching, counts.moves, counts.candidates), (2_500, Some(expected), None));
        }
    }

    #[test]
    fn pages_of_candidates_shrink_with_what_they_hold() {
        assert_eq!(next_limit(1_000, 0), CANDIDATES_MAX);
        assert_eq!(next_limit(1_000, 1_000 * 100), CANDIDATES_MAX);
        assert_eq!(next_limit(10, 10 << 20), 16);
        assert_eq!(next_limit(1, 1 << 30), 1);
    }

    #[test]
    fn an_answer_is_one_flat_object() {
        let raised =
            RaisedOn { identities: 1, id: "7".into(), identifier: "user7".into(), reason: "digits".into() };
        let counts = Counts {
            matching: 3,
            moves: Some(Moves { entering: 1, leaving: 2, staying: 2 }),
            candidates: Some(9),
            raised: Some(raised),
        };
        let answer = |method, counts| Previewed { method, counts, identities: Vec::new(), cursor: None };
        let json = |answer| serde_json::to_value::<Previewed>(answer).expect("JSON");
        let whole = json(answer(Method::Superset("why".into()), Some(counts)));
        let expected = serde_json::json!({
            "class": "superset", "reason": "why", "matching": 3, "entering": 1, "leaving": 2, "staying": 2,
            "candidates": 9, "raised": {"identities": 1, "id": "7", "identifier": "user7", "reason": "digits"},
            "identities": [], "cursor": null,
        });
        assert_eq!(whole, expected);
        let exact = json(answer(Method::Exact, None));
        assert_eq!(exact, serde_json::json!({"class": "exact", "identities": [], "cursor": null}));
    }
}
