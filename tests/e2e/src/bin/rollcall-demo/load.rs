//! The writers of the demo: some write to Postgres as the platform does, some to DynamoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rollcall_kit::flagsmith::{Kind, Load};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::stage::Stage;
use crate::{Args, Failure, SourceKind};

/// Leaves the other processes of a small machine some room.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two changes of the catalog, where identities are all at the edge.
const CATALOG_PAUSE: Duration = Duration::from_millis(700);
/// Happens at least once, whatever the seed draws.
const SHOWN: [Kind; 12] = [
    Kind::Traits,
    Kind::Create,
    Kind::Delete,
    Kind::Rename,
    Kind::Recreate,
    Kind::SystemTraits,
    Kind::SegmentCreate,
    Kind::SegmentEdit,
    Kind::SegmentDelete,
    Kind::Large,
    Kind::RolledBack,
    Kind::Savepoint,
];
/// What is written to Postgres where no identity is there.
const CATALOG: [Kind; 6] = [
    Kind::SegmentCreate,
    Kind::SegmentEdit,
    Kind::SegmentConditionEdit,
    Kind::FeatureEdit,
    Kind::SegmentDelete,
    Kind::SegmentRulesDataEdit,
];

/// What they have done so far.
#[derive(Default)]
struct Done {
    steps: AtomicU64,
    rows: AtomicU64,
    items: AtomicU64,
    stop: AtomicBool,
}

/// All writers.
pub(crate) struct Writers {
    done: Arc<Done>,
    tasks: JoinSet<Result<(), Failure>>,
    on_postgres: usize,
    on_dynamodb: usize,
}

impl Writers {
    /// Starts them.
    pub(crate) async fn start(stage: &Stage, args: &Args) -> Result<Self, Failure> {
        let (on_postgres, on_dynamodb) = match args.source {
            SourceKind::Postgres => (3, 0),
            SourceKind::Both => (2, 2),
            SourceKind::Dynamodb => (1, 3),
        };
        let mut writers =
            Self { done: Arc::new(Done::default()), tasks: JoinSet::new(), on_postgres, on_dynamodb };
        let is_catalog_alone = args.source == SourceKind::Dynamodb;
        let world =
            stage.edge.as_ref().map_or_else(|| stage.world.clone(), |edge| edge.rest_of(&stage.world));
        for writer in 0..on_postgres {
            let mut load = Load::new(&world, args.seed, writer, on_postgres);
            let mut client = stage.connect().await?;
            let done = Arc::clone(&writers.done);
            writers.tasks.spawn(async move {
                let mut first = if writer == 0 { SHOWN.iter() } else { [].iter() };
                let mut catalog = CATALOG.iter().cycle();
                while !done.stop.load(Ordering::Relaxed) {
                    let kind = if is_catalog_alone { catalog.next() } else { first.next() };
                    let step = match kind {
                        Some(kind) => load.perform(*kind, &mut client).await?,
                        None => load.step(&mut client).await?,
                    };
                    done.steps.fetch_add(1, Ordering::Relaxed);
                    done.rows.fetch_add(step.rows, Ordering::Relaxed);
                    sleep(if is_catalog_alone { CATALOG_PAUSE } else { PAUSE }).await;
                }
                Ok(())
            });
        }
        let Some(edge) = &stage.edge else { return Ok(writers) };
        for writer in 0..on_dynamodb {
            let mut load = edge.load(args.seed, writer, on_dynamodb);
            let done = Arc::clone(&writers.done);
            writers.tasks.spawn(async move {
                while !done.stop.load(Ordering::Relaxed) {
                    let items = load.step().await?;
                    done.items.fetch_add(items, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        Ok(writers)
    }

    /// Who writes.
    pub(crate) fn who(&self) -> String {
        if self.on_dynamodb == 0 {
            format!("{} workers write", self.on_postgres)
        } else {
            format!("{} workers write to Postgres and {} to DynamoDB", self.on_postgres, self.on_dynamodb)
        }
    }

    /// What they have written so far.
    pub(crate) fn done(&self) -> String {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let postgres = format!("{} writes, {} rows", of(&self.done.steps), of(&self.done.rows));
        if self.on_dynamodb == 0 { postgres } else { format!("{postgres}, {} items", of(&self.done.items)) }
    }

    /// Ends them, each after its write.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.done.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        Ok(())
    }
}
