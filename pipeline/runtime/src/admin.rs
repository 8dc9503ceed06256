//! What operators say to the log: control records into every partition, gates into the catalog, the agreed topology.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{
    CatalogDoc, Commit, Fault, FaultKind, GateDoc, GateMode, Input, Log, OrganisationId, Partition, Producer,
    Progress, Record, SourceName, Topic,
};
use rollcall_roster::Catalog;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::topology::{Agreement, Topology};

/// The task under which operators write.
const TASK: &str = "admin";
/// The writer of gates in the catalog.
const WRITER: &str = "topology";

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct AdminState {
    agreement: Option<Agreement>,
    catalog_number: u64,
    /// Checks, fills and repairs asked for so far; the next one's name.
    asked: u64,
    /// Tasks that operators paused.
    #[serde(default)]
    paused: BTreeSet<String>,
}

/// The operators' writer.
pub struct Admin {
    log: Arc<dyn Log>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Becomes the operators' writer.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn open(log: Arc<dyn Log>) -> Result<Self, Fault> {
        let inner = open(&log).await?;
        Ok(Self { log, inner: Mutex::new(inner) })
    }

    /// What differs between a topology and what the log says holds, a line each.
    pub async fn plan(&self, topology: &Topology) -> Vec<crate::topology::Difference> {
        let inner = self.inner.lock().await;
        let new = Agreement::of(topology);
        inner.1.agreement.as_ref().map_or_else(Vec::new, |old| old.differences(&new))
    }

    /// Whether the log has agreed on a topology at all.
    pub async fn has_agreed(&self) -> bool {
        self.inner.lock().await.1.agreement.is_some()
    }

    /// Makes a topology what the log says holds: gates become catalog documents. Answers the gates that changed.
    ///
    /// # Errors
    /// A config fault when a difference can't be applied to this log; a [`Fault`] of the log.
    pub async fn apply(&self, topology: &Topology) -> Result<Vec<String>, Fault> {
        let mut inner = self.inner.lock().await;
        let new = Agreement::of(topology);
        let differences = inner.1.agreement.as_ref().map_or_else(Vec::new, |old| old.differences(&new));
        if let Some(refused) = differences.iter().find(|d| d.refused.is_some()) {
            let why = refused.refused.clone().unwrap_or_default();
            return Err(Fault::config(format!("{}: {}", refused.line, why)).repair("take this change back"));
        }
        let docs = gate_docs(inner.1.agreement.as_ref(), &new);
        // Tasks of sinks that are no more must not hold retention up.
        let old_sinks = inner.1.agreement.as_ref().map(|old| old.sinks.clone()).unwrap_or_default();
        let gone: Vec<_> = old_sinks.into_keys().filter(|name| !new.sinks.contains_key(name)).collect();
        let mut state = AdminState { agreement: Some(new), ..inner.1.clone() };
        let mut records = Vec::new();
        if !docs.is_empty() {
            state.catalog_number += 1;
            let number = state.catalog_number;
            for doc in &docs {
                let writer = SourceName::from(WRITER);
                let entry = CatalogEntry { writer, number, doc: CatalogDoc::Gate(doc.clone()) };
                records.push(Record {
                    topic: Topic::Catalog,
                    partition: Partition(0),
                    key: entry.doc.key().into_bytes(),
                    value: Some(to_json(&entry)?),
                    headers: Vec::new(),
                });
            }
            let control = Input::Catalog { writer: WRITER.into(), number };
            records.extend(everywhere(self.log.partitions(), &control)?);
        }
        commit(&self.log, &mut inner, state, records).await?;
        for sink in gone {
            self.log.forget(&crate::sink_task::name(&sink)).await?;
        }
        Ok(differences.into_iter().map(|d| d.line).collect())
    }

    /// The tasks that operators paused and did not resume.
    pub async fn paused(&self) -> BTreeSet<String> {
        self.inner.lock().await.1.paused.clone()
    }

    /// Remembers that a task is to be paused, or no more.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn remember_pause(&self, task: &str, pause: bool) -> Result<(), Fault> {
        let mut inner = self.inner.lock().await;
        let mut state = inner.1.clone();
        let changes = if pause { state.paused.insert(task.to_owned()) } else { state.paused.remove(task) };
        if changes { commit(&self.log, &mut inner, state, Vec::new()).await } else { Ok(()) }
    }

    /// A name for a check, a fill or a repair, unique in the log.
    async fn name(&self, what: &str) -> String {
        let mut inner = self.inner.lock().await;
        inner.1.asked += 1;
        format!("{what}-{}", inner.1.asked)
    }

    /// Puts a control record into every partition; `input` is given its name. Answers the name.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn ask(&self, what: &str, input: impl Fn(String) -> Input) -> Result<String, Fault> {
        let id = self.name(what).await;
        let records = everywhere(self.log.partitions(), &input(id.clone()))?;
        let mut inner = self.inner.lock().await;
        let state = inner.1.clone();
        commit(&self.log, &mut inner, state, records).await?;
        Ok(id)
    }

    /// Puts control records into single partitions.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn tell(&self, inputs: Vec<(Partition, Input)>) -> Result<(), Fault> {
        let records =
            inputs.iter().map(|(partition, input)| control(*partition, input)).collect::<Result<_, _>>()?;
        let mut inner = self.inner.lock().await;
        let state = inner.1.clone();
        commit(&self.log, &mut inner, state, records).await
    }
}

type Inner = (Box<dyn Producer>, AdminState);

async fn open(log: &Arc<dyn Log>) -> Result<Inner, Fault> {
    let opened = log.open(TASK).await?;
    let state = match opened.progress {
        Some(progress) => serde_json::from_value(progress.state).map_err(|e| {
            Fault::refused("what the log agreed on can't be read")
                .from_source(e)
                .repair("run the version of rollcall that wrote the log")
        })?,
        None => AdminState::default(),
    };
    Ok((opened.producer, state))
}

async fn commit(
    log: &Arc<dyn Log>,
    inner: &mut Inner,
    state: AdminState,
    records: Vec<Record>,
) -> Result<(), Fault> {
    let progress = Progress {
        reads: BTreeMap::new(),
        state: serde_json::to_value(&state)
            .map_err(|e| Fault::bug("the admin state can't be written as JSON").from_source(e))?,
    };
    match inner.0.commit(Commit { records, progress: Some(progress) }).await {
        Ok(_) => {
            inner.1 = state;
            Ok(())
        }
        Err(fault) => {
            // It may have been written all the same: only a new opening tells, and lets the next command in. Where
            // that fails too, the next one comes here again.
            if fault.kind == FaultKind::Retry
                && let Ok(opened) = open(log).await
            {
                *inner = opened;
            }
            Err(fault)
        }
    }
}

/// The gates that differ, as documents.
fn gate_docs(old: Option<&Agreement>, new: &Agreement) -> Vec<GateDoc> {
    let mut docs = Vec::new();
    let before = old.map_or(GateMode::On, |old| old.gate_default);
    if before != new.gate_default {
        docs.push(GateDoc { organisation_id: None, mode: Some(new.gate_default) });
    }
    let none = BTreeMap::new();
    let old_gates = old.map_or(&none, |old| &old.gates);
    let organisations: BTreeSet<&OrganisationId> = old_gates.keys().chain(new.gates.keys()).collect();
    for organisation in organisations {
        let (was, is) = (old_gates.get(organisation), new.gates.get(organisation));
        if was != is {
            docs.push(GateDoc { organisation_id: Some(organisation.clone()), mode: is.copied() });
        }
    }
    docs
}

fn everywhere(partitions: u16, input: &Input) -> Result<Vec<Record>, Fault> {
    (0..partitions).map(|partition| control(Partition(partition), input)).collect()
}

fn control(partition: Partition, input: &Input) -> Result<Record, Fault> {
    Ok(Record {
        topic: Topic::IdentityChanges,
        partition,
        key: CONTROL_KEY.as_bytes().to_vec(),
        value: Some(to_json(input)?),
        headers: Vec::new(),
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value)
        .map_err(|e| Fault::bug("a control record can't be written as JSON").from_source(e))
}

/// Refuses a worker whose file differs from what the log says holds.
///
/// # Errors
/// A config fault that shows the differences.
pub fn refuse_difference(differences: &[crate::topology::Difference]) -> Result<(), Fault> {
    if differences.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = differences.iter().map(|d| format!("\n    {}", d.line)).collect();
    Err(Fault::config(format!("topology.yaml differs from what this log says holds:{}", lines.concat()))
        .repair("`rollcall apply --plan` shows what would happen, `rollcall apply` makes it so; or take the change back"))
}

/// The newest catalog a worker knows, with what a verify needs of it.
#[must_use]
pub fn judged_pairs(
    catalog: &Catalog,
) -> Vec<(rollcall_model::SegmentId, rollcall_model::EnvironmentId, String)> {
    let mut pairs = Vec::new();
    for environment in catalog.environments() {
        if catalog.judged(&environment.id, &environment.owner).is_none() {
            continue;
        }
        for segment in catalog.segments_of(&environment.project_id) {
            pairs.push((segment.doc.id.clone(), environment.id.clone(), environment.key.clone()));
        }
    }
    pairs.sort();
    pairs
}
