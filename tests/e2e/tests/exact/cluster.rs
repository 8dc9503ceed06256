//! Kafka with several workers, each behind a proxy of its own, and everything that can happen to them.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rollcall_e2e::{Failure, Worker};
use rollcall_kit::Proxy;
use rollcall_test_servers::{Kafka, KafkaSettings};
use tokio::time::sleep;

use crate::scene::{FAILPOINTS, Scene, must_not_end_by_itself};

/// A worker that is silent for so long loses its tasks.
const SESSION_MS: u64 = 3_000;

/// The broker, and a way to it for each worker.
pub(crate) struct Cluster {
    kafka: Kafka,
    proxies: Vec<Proxy>,
}

/// What happens to a worker, or to all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// kill -9 at a random moment.
    Kill,
    /// The end at a failpoint.
    Crash,
    /// Stopped for longer than its session, then let go on: by then others run its tasks.
    Zombie,
    /// The broker is killed and comes back. Never stopped in order: it is alone, and Kafka 4.3 then takes its partitions,
    /// which have no leader any more, for deleted ones and calls a commit done whose marks it has not written
    /// (docs/runbook.md, "A commit that never ends").
    BrokerRestart,
    /// A worker's bytes are swallowed for longer than its session.
    Partition,
    /// A worker's connections are reset.
    Reset,
    /// A worker's way is slow.
    Delay,
}

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Zombie,
    Fault::BrokerRestart,
    Fault::Partition,
    Fault::Crash,
    Fault::Reset,
    Fault::Delay,
];

impl Cluster {
    pub(crate) fn start(workers: usize) -> Self {
        let proxies: Vec<Proxy> = (0..workers).map(|_| Proxy::listen()).collect();
        let ports = proxies.iter().map(|proxy| proxy.address().port()).collect();
        let kafka = Kafka::start_with(KafkaSettings { proxied_listeners: ports, ..KafkaSettings::default() });
        for (number, proxy) in proxies.iter().enumerate() {
            proxy.forward_to(kafka.proxied(number));
        }
        Self { kafka, proxies }
    }

    /// The section `log` of each worker.
    pub(crate) fn logs(&self) -> Vec<String> {
        let log = |proxy: &Proxy| {
            format!(
                "{{ type: kafka, brokers: \"{}\", path: ./data, partitions: 4, replication_factor: 1, \
                 min_insync_replicas: 1, session_timeout_ms: {SESSION_MS}, transaction_timeout_ms: 20000 }}",
                proxy.address()
            )
        };
        self.proxies.iter().map(log).collect()
    }

    async fn restart_broker(&mut self, away: Duration) {
        let node = self.kafka.nodes()[0];
        self.kafka.kill9(node);
        sleep(away).await;
        tokio::task::block_in_place(|| self.kafka.start_again(node));
    }
}

impl Scene {
    /// Starts every worker that does not run.
    pub(crate) fn start_workers(&mut self) -> Result<(), Failure> {
        for worker in &mut self.workers {
            if worker.pid().is_none() {
                worker.start(None)?;
            }
        }
        Ok(())
    }

    /// Lets these happen one after another, each to a random worker, under load.
    pub(crate) async fn suffer(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        self.start_workers()?;
        sleep(Duration::from_secs(6)).await;
        for fault in faults {
            let number = self.rng.random_range(0..self.workers.len());
            println!("{fault:?} of worker {number}");
            self.befall(*fault, number).await?;
            sleep(Duration::from_millis(self.rng.random_range(500..3_000))).await;
            for worker in &mut self.workers {
                must_not_end_by_itself(worker)?;
            }
        }
        Ok(())
    }

    async fn befall(&mut self, fault: Fault, number: usize) -> Result<(), Failure> {
        let session = Duration::from_millis(SESSION_MS);
        let beyond = session + Duration::from_millis(self.rng.random_range(1_000..4_000));
        let moment = Duration::from_millis(self.rng.random_range(100..3_000));
        match fault {
            Fault::Kill => {
                self.workers[number].kill9().await?;
                sleep(moment + session / 2).await;
                self.workers[number].start(None)
            }
            Fault::Crash => {
                self.workers[number].kill9().await?;
                let point = FAILPOINTS.choose(&mut self.rng).ok_or("no failpoint")?;
                let at = format!("{point}:{}", self.rng.random_range(1..40));
                self.workers[number].start(Some(&at))?;
                wait_for_end(&mut self.workers[number], Duration::from_secs(8)).await?;
                self.workers[number].kill9().await?;
                self.workers[number].start(None)
            }
            Fault::Zombie => {
                self.workers[number].signal("STOP").await?;
                sleep(beyond).await;
                self.workers[number].signal("CONT").await
            }
            Fault::BrokerRestart => {
                self.cluster.as_mut().ok_or("no broker")?.restart_broker(moment).await;
                Ok(())
            }
            Fault::Partition | Fault::Reset | Fault::Delay => {
                let cluster = self.cluster.as_ref().ok_or("no broker")?;
                let proxy = &cluster.proxies[number];
                if fault == Fault::Partition {
                    proxy.drop_all();
                } else if fault == Fault::Reset {
                    proxy.reset();
                } else {
                    proxy.delay(Duration::from_millis(200));
                }
                sleep(if fault == Fault::Partition { beyond } else { moment }).await;
                proxy.pass();
                Ok(())
            }
        }
    }
}

async fn wait_for_end(worker: &mut Worker, within: Duration) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + within;
    while tokio::time::Instant::now() < until && worker.ended()?.is_none() {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
