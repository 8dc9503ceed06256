//! Which worker runs which task.
//!
//! ```text
//! topic PREFIX.tasks, always empty, a partition per task ──group PREFIX.workers──▶ each worker: its tasks
//! revoked ─▶ the worker stops those tasks ─▶ says so ─▶ the group gives them to another
//! ```
//!
//! librdkafka has no assignors of one's own, so tasks are partitions of an empty topic and its cooperative assignor moves
//! as few of them as it can. Members are static: a worker that restarts within its session keeps its tasks. Exactness
//! hangs on none of this: were two workers to run one task, the older one's commits would be refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rollcall_model::{Fault, FaultKind, Fut, Workers};
use tokio::sync::watch;

use crate::client::{Client, fault_with, make};
use crate::config::KafkaLogConfig;
use crate::context::{Context, Health};

/// Tasks that take longer to stop are fenced by whoever runs them next.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How soon the end of a worker is seen by its membership.
const POLL: Duration = Duration::from_millis(100);

/// The tasks of this worker, as of a change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Assigned {
    change: u64,
    tasks: BTreeSet<u16>,
    broken: Option<(FaultKind, String, Option<String>)>,
}

/// What the rebalance callback and the worker say to each other.
#[derive(Debug)]
pub(crate) struct Membership {
    assigned: watch::Sender<Assigned>,
    stopped: Mutex<Stopped>,
    said: Condvar,
}

#[derive(Debug, Default)]
struct Stopped {
    /// The last change that the worker has followed.
    change: u64,
    /// Nobody will say anything any more.
    gone: bool,
}

impl Membership {
    fn new() -> Self {
        Self {
            assigned: watch::Sender::new(Assigned::default()),
            stopped: Mutex::new(Stopped::default()),
            said: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stopped> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, say: impl FnOnce(&mut Stopped)) {
        say(&mut self.lock());
        self.said.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<u16>)) -> u64 {
        let mut number = 0;
        self.assigned.send_modify(|assigned| {
            change(&mut assigned.tasks);
            assigned.change += 1;
            number = assigned.change;
        });
        number
    }

    /// Tasks go elsewhere: not before they have stopped here, if that can be had in time.
    pub(crate) fn revoking(&self, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let gone = tasks_of(partitions);
            let number = self.change(|tasks| tasks.retain(|task| !gone.contains(task)));
            let until = Instant::now() + STOP_WITHIN;
            let mut stopped = self.lock();
            while stopped.change < number && !stopped.gone {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    tracing::warn!(
                        "tasks did not stop within {STOP_WITHIN:?}; their next worker fences them"
                    );
                    break;
                }
                stopped = self.said.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Tasks came.
    pub(crate) fn assigned(&self, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let new = tasks_of(partitions);
                self.change(|tasks| tasks.extend(new));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!("the group of workers: {error}"),
        }
    }
}

fn tasks_of(partitions: &TopicPartitionList) -> BTreeSet<u16> {
    partitions.elements().iter().filter_map(|element| u16::try_from(element.partition()).ok()).collect()
}

/// A worker's membership of the group. Dropping it ends it; the others take over once its session is over.
pub struct KafkaGroup {
    membership: Arc<Membership>,
    assigned: watch::Receiver<Assigned>,
    seen: u64,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for KafkaGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaGroup").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl KafkaGroup {
    pub(crate) fn join(config: &KafkaLogConfig, worker: &str) -> Result<Self, Fault> {
        let session = config.session_timeout_ms;
        let mut client = config.reader(true);
        client
            .set("group.instance.id", worker)
            .set("session.timeout.ms", session.to_string())
            .set("heartbeat.interval.ms", (session / 4).max(100).to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.offset.store", "false")
            // The topic stays empty: nothing is ever read of it, from wherever.
            .set("auto.offset.reset", "latest")
            .set("fetch.wait.max.ms", "5000")
            .set("topic.metadata.refresh.interval.ms", "10000");
        let membership = Arc::new(Membership::new());
        let (consumer, health) = make::<BaseConsumer<Context>>(config, &client)?;
        consumer.context().join(Arc::clone(&membership));
        let topic = config.tasks_topic();
        consumer
            .subscribe(&[&topic])
            .map_err(|e| fault_with(config, &health, "can't join the group of workers", e))?;
        let assigned = membership.assigned.subscribe();
        let shared = Arc::clone(&membership);
        let (config, worker) = (config.clone(), worker.to_owned());
        let thread = std::thread::Builder::new()
            .name("rollcall-group".to_owned())
            .spawn(move || follow(&config, &worker, Client::new(consumer), &health, &shared))
            .map_err(|e| Fault::retry("can't start the thread of the group").from_source(e))?;
        Ok(Self { membership, assigned, seen: 0, thread: Some(thread) })
    }

    async fn next(&mut self) -> Result<BTreeSet<u16>, Fault> {
        let seen = self.seen;
        self.membership.say(|stopped| stopped.change = seen);
        let changed = self.assigned.wait_for(|assigned| assigned.change > seen || assigned.broken.is_some());
        let assigned = changed.await.map_err(|_| Fault::retry("the membership ended"))?.clone();
        if let Some((kind, what, repair)) = assigned.broken {
            let fault = Fault::new(kind, what);
            return Err(match repair {
                Some(repair) => fault.repair(repair),
                None => fault,
            });
        }
        self.seen = assigned.change;
        Ok(assigned.tasks)
    }
}

impl Workers for KafkaGroup {
    fn next(&mut self) -> Fut<'_, BTreeSet<u16>> {
        Box::pin(self.next())
    }
}

impl Drop for KafkaGroup {
    fn drop(&mut self) {
        self.membership.say(|stopped| stopped.gone = true);
        // It sees that within a moment; nobody has to wait for it.
        drop(self.thread.take());
    }
}

/// Polls for the group's sake until the worker has gone. Rebalances run inside a poll.
fn follow(
    config: &KafkaLogConfig,
    worker: &str,
    consumer: Client<BaseConsumer<Context>>,
    health: &Health,
    membership: &Membership,
) {
    let Ok(consumer) = consumer.get() else { return };
    while !membership.lock().gone {
        let event = consumer.poll(POLL);
        let fatal = consumer.client().fatal_error().map(|(code, _)| KafkaError::Global(code));
        let failed = match event {
            Some(Err(error)) => Some(error),
            Some(Ok(_)) | None => None,
        };
        if let Some(error) = fatal.or(failed) {
            let fault = membership_fault(config, worker, health, error);
            if fault.kind != FaultKind::Retry {
                let broken = (fault.kind, fault.message(), fault.repair);
                membership.assigned.send_modify(|assigned| {
                    assigned.tasks.clear();
                    assigned.broken = Some(broken);
                });
                return;
            }
        }
    }
}

fn membership_fault(config: &KafkaLogConfig, worker: &str, health: &Health, error: KafkaError) -> Fault {
    match crate::fault::code_of(&error) {
        Some(Code::FencedInstanceId) => Fault::refused(format!(
            "another worker of the log '{}' at {} has the id '{worker}'",
            config.prefix, config.brokers
        ))
        .repair("give each worker an id of its own: rollcall run --worker-id ID"),
        Some(Code::InvalidSessionTimeout) => Fault::config(format!(
            "the brokers at {} don't take log.session_timeout_ms {}",
            config.brokers, config.session_timeout_ms
        ))
        .repair("keep between group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers"),
        _ => fault_with(config, health, "can't stay in the group of workers", error),
    }
}
