//! What operators say to the log: control records into every partition, gates into the catalog, the agreed topology.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{
    CatalogDoc, Commit, Fault, FaultKind, GateDoc, GateMode, Input, Log, OrganisationId, Partition, Progress,
    Record, SourceName, Topic,
};
use rollcall_roster::Catalog;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::topology::{Agreement, Difference, Topology};

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
    /// The number of each task that workers share. One that is no more keeps its number.
    #[serde(default)]
    tasks: BTreeMap<String, u16>,
}

/// A command that others overtake so often is given up.
const TRIES_MAX: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// The operators' writer. Every worker has one: each command opens the place in the log, reads what holds, and commits
/// before another can; who is overtaken does it again on what holds then.
#[derive(Clone)]
pub struct Admin {
    log: Arc<dyn Log>,
    /// One command at a time of this worker.
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// What a command makes of the state: the records that go with it, and its answer.
type Changed<T> = Result<(Vec<Record>, T), Fault>;

impl Admin {
    /// The operators' writer of a log.
    #[must_use]
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self { log, turn: Arc::default() }
    }

    async fn state(&self) -> Result<AdminState, Fault> {
        read_state(self.log.tasks().await?.remove(TASK))
    }

    /// Changes the state, and commits it with what goes with it. `change` is called again where somebody was quicker.
    async fn change<T>(&self, change: impl Fn(&mut AdminState) -> Changed<T>) -> Result<T, Fault> {
        let _turn = self.turn.lock().await;
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.try_change(&change).await {
                // Fenced: another worker's command came between. In doubt: only a new opening tells.
                Err(fault) if matches!(fault.kind, FaultKind::Fenced | FaultKind::Retry) => {
                    last = Some(fault);
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Fault::retry("other commands always came first")))
    }

    async fn try_change<T>(&self, change: &impl Fn(&mut AdminState) -> Changed<T>) -> Result<T, Fault> {
        let mut opened = self.log.open(TASK).await?;
        let known = read_state(opened.progress)?;
        let mut state = known.clone();
        let (records, answer) = change(&mut state)?;
        if state == known && records.is_empty() {
            return Ok(answer);
        }
        let progress = Progress {
            reads: BTreeMap::new(),
            state: serde_json::to_value(&state)
                .map_err(|e| Fault::bug("the admin state can't be written as JSON").from_source(e))?,
        };
        opened.producer.commit(Commit { records, progress: Some(progress) }).await?;
        Ok(answer)
    }

    /// What differs between a topology and what the log says holds, a line each.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn plan(&self, topology: &Topology) -> Result<Vec<Difference>, Fault> {
        Ok(differences(&self.state().await?, &Agreement::of(topology)))
    }

    /// Makes a first topology what the log says holds; one that differs from what holds already is refused.
    ///
    /// # Errors
    /// A config fault that shows the differences; a [`Fault`] of the log.
    pub async fn agree(&self, topology: &Topology) -> Result<(), Fault> {
        let (state, new) = (self.state().await?, Agreement::of(topology));
        if state.agreement.is_some() {
            refuse_difference(&differences(&state, &new))?;
        }
        // The first, or one that says more than the log knows so far.
        if state.agreement.as_ref() != Some(&new) {
            self.apply(topology).await?;
        }
        Ok(())
    }

    /// Makes a topology what the log says holds: gates become catalog documents. Answers what changed.
    ///
    /// # Errors
    /// A config fault when a difference can't be applied to this log; a [`Fault`] of the log.
    pub async fn apply(&self, topology: &Topology) -> Result<Vec<String>, Fault> {
        let new = Agreement::of(topology);
        let partitions = self.log.partitions();
        let (gone, lines) = self.change(|state| apply_to(state, &new, partitions)).await?;
        // Tasks of sinks that are no more must not hold retention up.
        for sink in gone {
            self.log.forget(&crate::sink_task::name(&sink)).await?;
        }
        Ok(lines)
    }

    /// The numbers under which workers share these tasks. A task keeps its number for the life of the log, so workers
    /// of an older topology mean the same by it.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn numbers(&self, tasks: &BTreeSet<String>) -> Result<BTreeMap<String, u16>, Fault> {
        self.change(|state| {
            for task in tasks {
                if !state.tasks.contains_key(task) {
                    let next = state.tasks.values().max().map_or(0, |last| last.saturating_add(1));
                    state.tasks.insert(task.clone(), next);
                }
            }
            Ok((Vec::new(), state.tasks.clone()))
        })
        .await
    }

    /// The tasks that operators paused and did not resume.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn paused(&self) -> Result<BTreeSet<String>, Fault> {
        Ok(self.state().await?.paused)
    }

    /// Remembers that a task is to be paused, or no more.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn remember_pause(&self, task: &str, pause: bool) -> Result<(), Fault> {
        self.change(|state| {
            if pause {
                state.paused.insert(task.to_owned());
            } else {
                state.paused.remove(task);
            }
            Ok((Vec::new(), ()))
        })
        .await
    }

    /// Puts a control record into every partition; `input` is given its name, unique in the log. Answers the name.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn ask(&self, what: &str, input: impl Fn(String) -> Input) -> Result<String, Fault> {
        let partitions = self.log.partitions();
        self.change(|state| {
            state.asked += 1;
            let id = format!("{what}-{}", state.asked);
            Ok((everywhere(partitions, &input(id.clone()))?, id))
        })
        .await
    }

    /// Puts control records into single partitions.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub async fn tell(&self, inputs: Vec<(Partition, Input)>) -> Result<(), Fault> {
        self.change(|_| {
            let records = inputs.iter().map(|(partition, input)| control(*partition, input));
            Ok((records.collect::<Result<_, _>>()?, ()))
        })
        .await
    }
}

fn read_state(progress: Option<Progress>) -> Result<AdminState, Fault> {
    progress.map_or_else(
        || Ok(AdminState::default()),
        |progress| {
            serde_json::from_value(progress.state).map_err(|e| {
                Fault::refused("what the log agreed on can't be read")
                    .from_source(e)
                    .repair("run the version of rollcall that wrote the log")
            })
        },
    )
}

fn differences(state: &AdminState, new: &Agreement) -> Vec<Difference> {
    state.agreement.as_ref().map_or_else(Vec::new, |old| old.differences(new))
}

/// Answers the sinks that are no more, and what changed.
fn apply_to(state: &mut AdminState, new: &Agreement, partitions: u16) -> Changed<(Vec<String>, Vec<String>)> {
    let differences = differences(state, new);
    if let Some(refused) = differences.iter().find(|d| d.refused.is_some()) {
        let why = refused.refused.clone().unwrap_or_default();
        return Err(Fault::config(format!("{}: {}", refused.line, why)).repair("take this change back"));
    }
    let docs = gate_docs(state.agreement.as_ref(), new);
    let old_sinks = state.agreement.as_ref().map(|old| old.sinks.clone()).unwrap_or_default();
    let gone: Vec<_> = old_sinks.into_keys().filter(|name| !new.sinks.contains_key(name)).collect();
    state.agreement = Some(new.clone());
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
        records.extend(everywhere(partitions, &Input::Catalog { writer: WRITER.into(), number })?);
    }
    Ok((records, (gone, differences.into_iter().map(|d| d.line).collect())))
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
fn refuse_difference(differences: &[Difference]) -> Result<(), Fault> {
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
        if !catalog.judges(environment, &environment.owner) {
            continue;
        }
        for segment in catalog.segments_of(&environment.project_id) {
            pairs.push((segment.doc.id.clone(), environment.id.clone(), environment.key.clone()));
        }
    }
    pairs.sort();
    pairs
}
