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
use rollcall_model::{Commit, Fault, FaultKind, Fut, Workers};
use tokio::sync::watch;

use crate::client::{Client, fault_of, fault_with, make};
use crate::config::KafkaLogConfig;
use crate::context::{Context, Health, is_refusal};
use crate::producer::Writer;

/// Tasks that take longer to stop are fenced by whoever runs them next.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Between leaving and joining anew.
const JOIN_AGAIN: Duration = Duration::from_millis(500);
/// How soon the end of a worker is seen by its membership.
const POLL: Duration = Duration::from_millis(100);
/// Brokers that don't answer for so long are asked whether they are there.
const TROUBLE_LASTS: Duration = Duration::from_secs(10);
/// What a broker that works answers within.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

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

    /// The number of the change, or of the last one where nothing changes: rebalances say much that is no news. The
    /// first is one in any case, as it says that the group answered.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<u16>)) -> u64 {
        let mut number = 0;
        self.assigned.send_if_modified(|assigned| {
            let before = assigned.tasks.clone();
            change(&mut assigned.tasks);
            let is_news = assigned.tasks != before || assigned.change == 0;
            assigned.change += u64::from(is_news);
            number = assigned.change;
            is_news
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
    /// Blocks while it fences an older process of the same worker.
    pub(crate) fn join(config: &KafkaLogConfig, worker: &str, message_bytes_max: u64) -> Result<Self, Fault> {
        let membership = Arc::new(Membership::new());
        let member = Member {
            config: config.clone(),
            worker: worker.to_owned(),
            proof: Writer::open(config, &format!("member/{worker}"), 0, message_bytes_max, None)?,
            membership: Arc::clone(&membership),
        };
        // The first time here, so that a setting that librdkafka doesn't take is said at once.
        let joined = member.join()?;
        let assigned = membership.assigned.subscribe();
        let thread = std::thread::Builder::new()
            .name("rollcall-group".to_owned())
            .spawn(move || member.stay(joined))
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

/// A worker as a member of the group, over all the clients it may need for that.
struct Member {
    config: KafkaLogConfig,
    worker: String,
    /// The newest process with this id has it: an older one is fenced.
    proof: Writer,
    membership: Arc<Membership>,
}

/// A client that is a member.
struct Joined {
    consumer: Client<BaseConsumer<Context>>,
    health: Health,
}

impl Member {
    fn join(&self) -> Result<Joined, Fault> {
        let config = &self.config;
        let session = config.session_timeout_ms;
        let mut client = config.reader(true);
        client
            .set("group.instance.id", &self.worker)
            .set("session.timeout.ms", session.to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.offset.store", "false")
            // Nobody has a place in an empty topic; without this, that is an error.
            .set("auto.offset.reset", "latest");
        let heartbeat = (session / 4).max(100).to_string();
        config.set_unless_given(&mut client, "heartbeat.interval.ms", &heartbeat);
        config.set_unless_given(&mut client, "fetch.wait.max.ms", "5000");
        config.set_unless_given(&mut client, "topic.metadata.refresh.interval.ms", "10000");
        let (consumer, health) = make::<BaseConsumer<Context>>(config, &client)?;
        consumer.context().join(Arc::clone(&self.membership));
        consumer
            .subscribe(&[&config.tasks_topic()])
            .map_err(|e| fault_with(config, &health, "can't join the group of workers", e))?;
        Ok(Joined { consumer: Client::new(consumer), health })
    }

    /// Is a member until the worker has gone or can't be one any more.
    fn stay(mut self, mut joined: Joined) {
        loop {
            match self.follow(&joined) {
                None => return,
                Some(Left::Broken(fault)) => {
                    let broken = (fault.kind, fault.message(), fault.repair);
                    self.membership.assigned.send_modify(|assigned| {
                        assigned.tasks.clear();
                        assigned.broken = Some(broken);
                    });
                    return;
                }
                Some(Left::Replaced) => {
                    tracing::info!(worker = self.worker, "the group of workers lost this one; it joins anew");
                    self.membership.change(BTreeSet::clear);
                }
            }
            joined = loop {
                std::thread::sleep(JOIN_AGAIN);
                if self.membership.lock().gone {
                    return;
                }
                match self.join() {
                    Ok(joined) => break joined,
                    Err(fault) => tracing::warn!("{fault}"),
                }
            };
        }
    }

    /// Polls for the group's sake; `None` when the worker has gone. Rebalances run inside a poll.
    fn follow(&mut self, joined: &Joined) -> Option<Left> {
        let consumer = joined.consumer.get().ok()?;
        while !self.membership.lock().gone {
            let event = consumer.poll(POLL);
            let fatal = consumer.client().fatal_error().map(|(code, _)| KafkaError::Global(code));
            let failed = match event {
                Some(Err(error)) => Some(error),
                Some(Ok(_)) | None => None,
            };
            // Who refuses us for a moment, as a broker that starts may, is asked again below.
            let is_noted = |error: &KafkaError| crate::fault::code_of(error).is_some_and(is_refusal);
            let failed = fatal.or(failed.filter(|error| !is_noted(error)));
            let is_fenced = failed.as_ref().and_then(crate::fault::code_of) == Some(Code::FencedInstanceId);
            if is_fenced && !self.has_double() {
                return Some(Left::Replaced);
            }
            let failed =
                failed.map(|error| membership_fault(&self.config, &self.worker, &joined.health, error));
            let fault = failed.or_else(|| lasting_trouble(&self.config, consumer, &joined.health));
            if let Some(fault) = fault.filter(|fault| fault.kind != FaultKind::Retry) {
                return Some(Left::Broken(fault));
            }
        }
        None
    }

    /// Whether a newer process has this worker's id. A member whose join was answered into a broken connection is taken by
    /// the brokers for its own double: then nobody else has fenced it here.
    fn has_double(&mut self) -> bool {
        let proven = self.proof.commit(Commit::default());
        proven.is_err_and(|fault| fault.kind == FaultKind::Fenced)
    }
}

/// Why a client is no longer a member.
enum Left {
    /// The brokers have another member in its place, which is itself.
    Replaced,
    /// It can't be one.
    Broken(Fault),
}

/// Nobody says that a client works again: it is asked.
fn lasting_trouble(
    config: &KafkaLogConfig,
    consumer: &BaseConsumer<Context>,
    health: &Health,
) -> Option<Fault> {
    let trouble = health.trouble(TROUBLE_LASTS)?;
    if consumer.fetch_watermarks(&config.tasks_topic(), 0, ANSWER_WITHIN).is_ok() {
        health.good();
        return None;
    }
    Some(fault_of(config, "can't stay in the group of workers", trouble))
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
