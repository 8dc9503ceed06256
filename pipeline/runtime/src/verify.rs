//! `verify`: the stores compared at one cut, while traffic flows (PROTOCOL.md §6).
//!
//! ```text
//! check(id) ─▶ every partition ─▶ roster ─▶ membership-changes, segment-counts ─▶ sinks
//!                                   └────────────── checks ◀──────────────────────┘
//!              equal (id, partition) are compared; a difference is narrowed to buckets, then to members
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::log::PollLimit;
use rollcall_model::{
    CheckReport, CheckScope, Consumer, EnvironmentId, Fault, Fingerprint, IdentityKey, Input, Log, NativeId,
    Partition, SegmentId, Topic,
};
use rollcall_roster::Catalog;
use serde::Serialize;

use crate::admin::{Admin, judged_pairs};
use crate::foreign::own;

/// A store that has not answered by then is named.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Differences that are looked into; each asks every task twice.
const NARROWED_MAX: usize = 50;
/// Identities named per difference.
const NAMED_MAX: usize = 20;
const POLL: PollLimit =
    PollLimit { records_max: 1_000, bytes_max: 16 << 20, wait: Duration::from_millis(500) };

type Pair = (SegmentId, EnvironmentId);

/// What a verify found; the body of `POST /verify`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Verdict {
    /// Whether all stores answered and agree.
    pub equal: bool,
    /// Every (segment, environment) that is judged, with each store's count.
    pub checked: Vec<Checked>,
    /// What differs, a line each.
    pub differences: Vec<String>,
    /// Identities whose changes wait in quarantine; whoever shows the verdict knows them.
    pub parked: Vec<String>,
    /// Tasks that did not answer in time.
    pub unanswered: Vec<String>,
    /// What a repair said again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
}

/// One (segment, environment) of a verdict.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Checked {
    /// The segment.
    pub segment_id: SegmentId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Members by store.
    pub stores: BTreeMap<String, u64>,
}

/// What to verify.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Only this segment.
    pub segment_id: Option<SegmentId>,
    /// Only this environment.
    pub environment_id: Option<EnvironmentId>,
    /// Whether to say again what differs.
    pub repair: bool,
}

impl Wanted {
    fn covers(&self, (segment, environment): &Pair) -> bool {
        self.segment_id.as_ref().is_none_or(|wanted| wanted == segment)
            && self.environment_id.as_ref().is_none_or(|wanted| wanted == environment)
    }
}

/// Verifies stores against each other.
pub(crate) struct Verifier<'a> {
    pub(crate) log: &'a Arc<dyn Log>,
    pub(crate) admin: &'a Admin,
    pub(crate) catalog: Arc<Catalog>,
    /// The sinks that answer checks, and whether they can name members.
    pub(crate) sinks: Vec<(String, bool)>,
}

type Answers = BTreeMap<(String, Partition), CheckReport>;

impl Verifier<'_> {
    /// Runs a verify.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn run(&self, wanted: &Wanted) -> Result<Verdict, Fault> {
        let answers = self.ask(CheckScope::Totals).await?;
        let mut verdict = Verdict { unanswered: self.missing(&answers), ..Verdict::default() };
        let totals = self.totals(&answers);
        self.fill_checked(&mut verdict, &totals, wanted);
        for ((store, _), report) in &answers {
            // Every partition of a sink compares the same platform rows: one line each is enough.
            verdict.differences.extend(report.differences.iter().map(|line| format!("{store}: {line}")));
        }
        verdict.differences.sort();
        verdict.differences.dedup();
        let differing = differing(&totals, wanted, &self.sinks);
        let more = differing.len().saturating_sub(NARROWED_MAX);
        for (pair, partition, store) in differing.into_iter().take(NARROWED_MAX) {
            let (line, ids) = self.narrow(&pair, partition, &store, &totals).await?;
            verdict.differences.push(line);
            if wanted.repair {
                let (segment_id, environment_id) = pair.clone();
                let named = ids.len();
                let owned = self.by_owner(&environment_id, partition, ids);
                let repairs = owned.into_iter().map(|(partition, ids)| {
                    let (segment_id, environment_id) = (segment_id.clone(), environment_id.clone());
                    (partition, Input::Repair { segment_id, environment_id, ids })
                });
                self.admin.tell(repairs.collect()).await?;
                verdict.repaired.push(format!(
                    "segment {} in environment {}: said {named} identities and the count again",
                    pair.0, pair.1
                ));
            }
        }
        if more > 0 {
            verdict.differences.push(format!(
                "{more} more (segment, environment, partition) differ and were not looked into: a store that differs so \
                 much is filled anew by `rollcall rebuild SINK`"
            ));
        }
        verdict.equal = verdict.differences.is_empty() && verdict.unanswered.is_empty();
        Ok(verdict)
    }

    /// Who has the say over each identity: a row that another hand wrote may stand under a partition that isn't its
    /// own. The partition that differs says its count again in any case.
    fn by_owner(
        &self,
        environment: &EnvironmentId,
        differs: Partition,
        ids: Vec<NativeId>,
    ) -> BTreeMap<Partition, Vec<NativeId>> {
        let owner = self.catalog.environment(environment).map(|e| &e.owner);
        let mut owned = BTreeMap::from([(differs, Vec::new())]);
        for id in ids {
            let key = owner.map(|source| IdentityKey { source: source.clone(), id: id.clone() });
            let partition = key.map_or(differs, |key| key.partition(self.log.partitions()));
            owned.entry(partition).or_default().push(id);
        }
        owned
    }

    async fn ask(&self, scope: CheckScope) -> Result<Answers, Fault> {
        let at = (Topic::Checks, Partition(0));
        let end = self.log.range(at.0, at.1).await?.end;
        let mut consumer = self.log.consumer(BTreeMap::from([(at, end)])).await?;
        let id = self.admin.ask("check", |id| Input::Check { id, scope: scope.clone() }).await?;
        let expected = (self.sinks.len() + 1) * usize::from(self.log.partitions());
        collect(&mut *consumer, &id, expected).await
    }

    fn missing(&self, answers: &Answers) -> Vec<String> {
        let stores = std::iter::once("roster").chain(self.sinks.iter().map(|(name, _)| name.as_str()));
        let mut missing = Vec::new();
        for store in stores {
            let silent: Vec<_> = (0..self.log.partitions())
                .filter(|p| !answers.contains_key(&(store.to_owned(), Partition(*p))))
                .map(|p| p.to_string())
                .collect();
            if !silent.is_empty() {
                let within = ANSWER_WITHIN.as_secs();
                missing
                    .push(format!("{store}: partitions {} did not answer in {within} s", silent.join(", ")));
            }
        }
        missing
    }

    /// Per pair, partition and store: count and fingerprint.
    fn totals(&self, answers: &Answers) -> Totals {
        let keys: BTreeMap<&str, &EnvironmentId> =
            self.catalog.environments().map(|e| (e.key.as_str(), &e.id)).collect();
        let mut totals = Totals::default();
        for ((store, partition), report) in answers {
            totals.answered.insert((store.clone(), *partition));
            for total in &report.totals {
                let by_key = total.environment_key.as_deref();
                let environment = total.environment_id.clone().or_else(|| {
                    by_key
                        .map(|key| keys.get(key).map_or_else(|| EnvironmentId::from(key), |id| (*id).clone()))
                });
                let Some(environment) = environment else { continue };
                let pair = (total.segment_id.clone(), environment);
                // One environment under two api keys is two lines: all of it counts, or rows under the old one hide.
                let stores = totals.parts.entry((pair, *partition)).or_default();
                let (count, fingerprint) = stores.entry(store.clone()).or_default();
                *count += total.count;
                fingerprint.0 = fingerprint.0.wrapping_add(total.fingerprint.0);
            }
        }
        totals
    }

    fn fill_checked(&self, verdict: &mut Verdict, totals: &Totals, wanted: &Wanted) {
        let mut sums: BTreeMap<Pair, BTreeMap<String, u64>> = BTreeMap::new();
        let judged =
            judged_pairs(&self.catalog).into_iter().map(|(segment, environment, _)| (segment, environment));
        let stores: BTreeSet<&String> = totals.answered.iter().map(|(store, _)| store).collect();
        for pair in judged.filter(|pair| wanted.covers(pair)) {
            sums.insert(pair, stores.iter().map(|store| ((*store).clone(), 0)).collect());
        }
        for ((pair, _), parts) in totals.parts.iter().filter(|((pair, _), _)| wanted.covers(pair)) {
            for (store, (count, _)) in parts {
                *sums.entry(pair.clone()).or_default().entry(store.clone()).or_default() += count;
            }
        }
        verdict.checked = sums
            .into_iter()
            .map(|((segment_id, environment_id), stores)| Checked { segment_id, environment_id, stores })
            .collect();
    }

    /// Names the identities that differ between the roster and one sink.
    async fn narrow(
        &self,
        pair: &Pair,
        partition: Partition,
        store: &str,
        totals: &Totals,
    ) -> Result<(String, Vec<NativeId>), Fault> {
        let (segment_id, environment_id) = pair.clone();
        let of = |name: &str| totals.part(pair, partition, name).0;
        let mut line = format!(
            "{store}: segment {segment_id} in environment {environment_id}, partition {partition}: {} members, the \
             roster has {}",
            of(store),
            of("roster")
        );
        if !self.sinks.iter().any(|(name, lists)| name == store && *lists) {
            return Ok((line, Vec::new()));
        }
        let scope =
            CheckScope::Buckets { segment_id: segment_id.clone(), environment_id: environment_id.clone() };
        let answers = self.ask(scope).await?;
        let buckets = |name: &str| {
            answers
                .get(&(name.to_owned(), partition))
                .map(|report| report.buckets.clone())
                .unwrap_or_default()
        };
        let (ours, theirs) = (buckets("roster"), buckets(store));
        let keys: BTreeSet<u8> = ours.keys().chain(theirs.keys()).copied().collect();
        let buckets: BTreeSet<u8> = keys.into_iter().filter(|key| ours.get(key) != theirs.get(key)).collect();
        if buckets.is_empty() {
            line.push_str("; no identity differs by now (the count alone, or it was mended meanwhile)");
            return Ok((line, Vec::new()));
        }
        let answers = self.ask(CheckScope::Members { segment_id, environment_id, buckets }).await?;
        let members = |name: &str| {
            answers
                .get(&(name.to_owned(), partition))
                .map(|report| report.members.clone())
                .unwrap_or_default()
        };
        let (ours, theirs) = (members("roster"), members(store));
        let name = |ids: Vec<&String>| {
            let shown: Vec<_> = ids.iter().take(NAMED_MAX).map(|id| id.as_str()).collect();
            let more = ids.len().saturating_sub(NAMED_MAX);
            if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
        };
        let missing: Vec<_> = ours.difference(&theirs).collect();
        let extra: Vec<_> = theirs.difference(&ours).collect();
        if !missing.is_empty() {
            line.push_str(&format!("; {store} lacks {}", name(missing.clone())));
        }
        if !extra.is_empty() {
            line.push_str(&format!("; {store} should not have {}", name(extra.clone())));
        }
        let ids = missing.into_iter().chain(extra).map(|id| native(id)).collect();
        Ok((line, ids))
    }
}

fn native(id: &str) -> NativeId {
    match id.parse::<i64>() {
        Ok(number) if number.to_string() == id => NativeId::Int(number),
        Ok(_) | Err(_) => NativeId::Text(id.into()),
    }
}

#[derive(Default)]
struct Totals {
    parts: BTreeMap<(Pair, Partition), BTreeMap<String, (u64, Fingerprint)>>,
    answered: BTreeSet<(String, Partition)>,
}

impl Totals {
    fn part(&self, pair: &Pair, partition: Partition, store: &str) -> (u64, Fingerprint) {
        let parts = self.parts.get(&(pair.clone(), partition));
        parts.and_then(|parts| parts.get(store)).copied().unwrap_or_default()
    }
}

/// Where a sink that answered says something else than the roster.
fn differing(totals: &Totals, wanted: &Wanted, sinks: &[(String, bool)]) -> Vec<(Pair, Partition, String)> {
    let mut differing = Vec::new();
    for (pair, partition) in totals.parts.keys().filter(|(pair, _)| wanted.covers(pair)) {
        let answered = |store: &str| totals.answered.contains(&(store.to_owned(), *partition));
        let truth = totals.part(pair, *partition, "roster");
        for (sink, _) in sinks.iter().filter(|(sink, _)| answered("roster") && answered(sink)) {
            if totals.part(pair, *partition, sink) != truth {
                differing.push((pair.clone(), *partition, sink.clone()));
            }
        }
    }
    differing
}

async fn collect(consumer: &mut dyn Consumer, id: &str, expected: usize) -> Result<Answers, Fault> {
    let mut answers = Answers::new();
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let prefix = format!("{id}/");
    while answers.len() < expected && tokio::time::Instant::now() < deadline {
        for fetched in own(consumer.poll(POLL).await?) {
            let own = fetched.record.key.starts_with(prefix.as_bytes());
            let report =
                fetched.record.value.filter(|_| own).map(|value| serde_json::from_slice(&value)).transpose();
            let report: Option<CheckReport> =
                report.map_err(|e| Fault::bug("an answer to a check can't be read").from_source(e))?;
            if let Some(report) = report {
                answers.insert((report.store.clone(), report.partition), report);
            }
        }
    }
    Ok(answers)
}
