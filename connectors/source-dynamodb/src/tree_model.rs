//! Random histories of a stream that splits, rolls and is trimmed, read by several readers that crash and are slow: what
//! comes out is in order for each key, once, and whole; or the refusals name a window that holds all that is missing.

use proptest::prelude::*;
use rollcall_model::shards::StreamStart;

use super::*;

const MINUTE: i64 = 60 * 1_000_000;
const SLACK: i64 = 5 * 1_000_000;
const READERS: u16 = 3;
const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Op {
    Write {
        key: u8,
    },
    Split {
        shard: usize,
    },
    Roll {
        shard: usize,
    },
    /// Time passes; what is a day old goes.
    Pass {
        minutes: i64,
    },
    /// A reader lists, plans, and starts what it may.
    Look {
        reader: u16,
    },
    Read {
        reader: u16,
        shard: usize,
        records: usize,
    },
    Commit {
        reader: u16,
    },
    Crash {
        reader: u16,
    },
    /// An operator accepts what was refused.
    Repair,
}

fn op(day: bool) -> impl Strategy<Value = Op> {
    let reader = || 0..READERS;
    prop_oneof![
        12 => (0..KEYS).prop_map(|key| Op::Write { key }),
        2 => (0..100usize).prop_map(|shard| Op::Split { shard }),
        2 => (0..100usize).prop_map(|shard| Op::Roll { shard }),
        3 => (1..if day { 400i64 } else { 10 }).prop_map(|minutes| Op::Pass { minutes }),
        6 => reader().prop_map(|reader| Op::Look { reader }),
        10 => (reader(), 0..100usize, 1..5usize).prop_map(|(reader, shard, records)| Op::Read { reader, shard, records }),
        8 => reader().prop_map(|reader| Op::Commit { reader }),
        1 => reader().prop_map(|reader| Op::Crash { reader }),
        1 => Just(Op::Repair),
    ]
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    sequence: u64,
    key: u8,
    at_us: i64,
}

#[derive(Clone, Debug)]
struct Shard {
    id: ShardId,
    parent: Option<ShardId>,
    keys: Vec<u8>,
    records: Vec<Record>,
    /// The newest sequence number that was trimmed.
    trimmed: u64,
    closed_us: Option<i64>,
}

/// The stream.
#[derive(Debug)]
struct World {
    shards: Vec<Shard>,
    all: Vec<Record>,
    now_us: i64,
    made: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self { shards: Vec::new(), all: Vec::new(), now_us: 1_000 * 60 * MINUTE, made: 0 };
        world.open(None, (0..KEYS / 2).collect());
        world.open(None, (KEYS / 2..KEYS).collect());
        world
    }

    fn open(&mut self, parent: Option<ShardId>, keys: Vec<u8>) {
        self.made += 1;
        let id = format!("shardId-{:05}-{:x}", self.made, self.made * 7_919);
        self.shards.push(Shard { id, parent, keys, records: Vec::new(), trimmed: 0, closed_us: None });
    }

    fn replace(&mut self, nth: usize, ways: usize) {
        let open: Vec<_> = (0..self.shards.len()).filter(|n| self.shards[*n].closed_us.is_none()).collect();
        let shard = &mut self.shards[open[nth % open.len()]];
        shard.closed_us = Some(self.now_us);
        let (id, keys) = (shard.id.clone(), shard.keys.clone());
        let half = if ways == 2 { keys.len() / 2 } else { keys.len() };
        let (left, right) = keys.split_at(half);
        let (left, right) = (left.to_vec(), right.to_vec());
        self.open(Some(id.clone()), left);
        if ways == 2 {
            self.open(Some(id), right);
        }
    }

    fn write(&mut self, key: u8) {
        let sequence = self.all.len() as u64 + 1;
        let record = Record { sequence, key, at_us: self.now_us };
        self.all.push(record.clone());
        let shard =
            self.shards.iter_mut().find(|shard| shard.closed_us.is_none() && shard.keys.contains(&key));
        shard.expect("each key has an open shard").records.push(record);
    }

    fn pass(&mut self, minutes: i64) {
        self.now_us += minutes * MINUTE;
        let old = self.now_us - RETENTION_US;
        for shard in &mut self.shards {
            let kept = shard.records.iter().position(|record| record.at_us >= old);
            let kept = kept.unwrap_or(shard.records.len());
            if let Some(last) = shard.records.drain(..kept).next_back() {
                shard.trimmed = last.sequence;
            }
        }
        self.shards.retain(|shard| shard.closed_us.is_none_or(|closed| closed >= old));
    }

    fn listing(&self) -> Listing {
        let mut listing = Listing::default();
        for shard in self.shards.iter().rev() {
            listing.add(shard.id.clone(), shard.parent.clone(), shard.closed_us.is_some());
        }
        listing
    }

    fn shard(&self, id: &str) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.id == id)
    }
}

/// What the log has of a reader, and what it has in memory.
#[derive(Clone, Debug, Default)]
struct Reader {
    saved: Shards,
    begun: bool,
    notes: BTreeMap<ShardId, Option<ShardProgress>>,
    running: BTreeMap<ShardId, ShardProgress>,
    ended: BTreeSet<ShardId>,
    said: Vec<Record>,
    progress: BTreeMap<ShardId, Option<ShardProgress>>,
    refused: Vec<Loss>,
}

#[derive(Debug)]
struct Model {
    world: World,
    stream: Stream,
    readers: Vec<Reader>,
    log: Vec<Record>,
    losses: Vec<Loss>,
    /// What repairs brought back.
    windows: Vec<(i64, i64)>,
}

fn number(sequence: u64) -> Sequence {
    sequence.to_string().parse().expect("a sequence number")
}

impl Model {
    fn new(world: World, start: StreamStart) -> Self {
        let ended = match start {
            StreamStart::Latest => world.listing().ended(),
            StreamStart::TrimHorizon => BTreeSet::new(),
        };
        let began_us = world.now_us;
        let stream = Stream { name: "arn".to_owned(), epoch: 1, start, began_us, readers: READERS, ended };
        let readers = vec![Reader::default(); usize::from(READERS)];
        Self { world, stream, readers, log: Vec::new(), losses: Vec::new(), windows: Vec::new() }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Write { key } => self.world.write(key),
            Op::Split { shard } => self.world.replace(shard, 2),
            Op::Roll { shard } => self.world.replace(shard, 1),
            Op::Pass { minutes } => self.world.pass(minutes),
            Op::Look { reader } => self.look(reader),
            Op::Read { reader, shard, records } => {
                let running = &self.readers[usize::from(reader)].running;
                if let Some(shard) = running.keys().nth(shard % running.len().max(1)).cloned() {
                    self.read(reader, &shard, records);
                }
            }
            Op::Commit { reader } => self.commit(reader),
            Op::Crash { reader } => self.crash(reader),
            Op::Repair => self.repair(),
        }
    }

    fn crash(&mut self, index: u16) {
        let reader = &mut self.readers[usize::from(index)];
        let saved = std::mem::take(&mut reader.saved);
        *reader = Reader { begun: saved.epoch >= self.stream.epoch, saved, ..Reader::default() };
    }

    fn repair(&mut self) {
        if self.readers.iter().all(|reader| reader.refused.is_empty()) {
            return;
        }
        // A repair covers what is missing by then, of all readers.
        let all = self.readers.iter().enumerate();
        let all = all.map(|(index, reader)| (u16::try_from(index).unwrap_or_default(), reader.saved.clone()));
        let from_us = missing_from_us(&self.stream, &self.world.listing(), &all.collect(), SLACK);
        self.windows.push((from_us, self.world.now_us));
        self.stream.epoch += 1;
        self.stream.began_us = self.world.now_us;
        for index in 0..READERS {
            let refused = std::mem::take(&mut self.readers[usize::from(index)].refused);
            self.losses.extend(refused);
            self.crash(index);
        }
    }

    fn look(&mut self, index: u16) {
        let others: BTreeMap<u16, Shards> = (0..READERS)
            .filter(|other| *other != index)
            .map(|other| (other, self.readers[usize::from(other)].saved.clone()))
            .collect();
        let listing = self.world.listing();
        let now_us = self.world.now_us;
        let reader = &mut self.readers[usize::from(index)];
        if !reader.refused.is_empty() {
            return;
        }
        if !reader.begun {
            // What can't be read on begins anew.
            for (id, progress) in &reader.saved.shards {
                let shard = self.world.shards.iter().find(|shard| &shard.id == id);
                let trimmed = progress.after.as_ref().zip(shard).is_some_and(|(after, shard)| {
                    *after < number(shard.trimmed) && progress.through_us < now_us - RETENTION_US
                });
                if trimmed && !progress.finished {
                    reader.notes.insert(id.clone(), Some(ShardProgress { after: None, ..progress.clone() }));
                }
            }
        }
        let mut own = reader.saved.shards.clone();
        for (id, note) in &reader.notes {
            match note {
                Some(progress) if !reader.begun || !own.contains_key(id) => {
                    own.insert(id.clone(), progress.clone())
                }
                Some(_) => None,
                None => own.remove(id),
            };
        }
        let view = View {
            stream: &self.stream,
            index,
            begun: reader.begun,
            listing: &listing,
            own: &own,
            others: &others,
            now_us,
            slack_us: SLACK,
        };
        let plan = view.plan();
        let mut notes = plan.note;
        if !reader.begun {
            for (id, note) in &reader.notes {
                notes.entry(id.clone()).or_insert_with(|| note.clone());
            }
        }
        reader.begun = true;
        reader.progress.extend(notes.clone());
        reader.notes.extend(notes);
        if !plan.losses.is_empty() {
            reader.refused = plan.losses;
            return;
        }
        for (id, progress) in plan.read {
            if !reader.ended.contains(&id) {
                reader.running.entry(id).or_insert(progress);
            }
        }
    }

    fn read(&mut self, index: u16, id: &ShardId, records: usize) {
        let now_us = self.world.now_us;
        let kept_us = now_us - RETENTION_US;
        let shard = self.world.shard(id).cloned();
        let reader = &mut self.readers[usize::from(index)];
        let Some(progress) = reader.running.get_mut(id) else { return };
        let after = progress.after.clone().unwrap_or_else(|| number(0));
        let lost = |cause| Loss {
            shard: id.clone(),
            cause,
            from_us: progress.through_us,
            to_us: kept_us,
            after: progress.after.clone(),
        };
        let Some(shard) = shard else {
            reader.refused.push(lost(Cause::Vanished));
            return;
        };
        if after < number(shard.trimmed) && progress.through_us < kept_us {
            reader.refused.push(lost(Cause::Trimmed));
            return;
        }
        let wanted_us = match self.stream.start {
            StreamStart::Latest if self.stream.epoch > 1 => i64::MIN,
            StreamStart::Latest => self.stream.began_us - SLACK,
            StreamStart::TrimHorizon => i64::MIN,
        };
        let rest: Vec<_> = shard.records.iter().filter(|record| number(record.sequence) > after).collect();
        for record in rest.iter().take(records) {
            progress.after = Some(number(record.sequence));
            progress.through_us = progress.through_us.max(record.at_us);
            if record.at_us >= wanted_us {
                reader.said.push((*record).clone());
            }
        }
        if rest.is_empty() && shard.closed_us.is_none() {
            progress.through_us = progress.through_us.max(now_us - SLACK);
        }
        let finished = shard.closed_us.is_some() && rest.len() <= records;
        progress.finished = finished;
        reader.progress.insert(id.clone(), Some(progress.clone()));
        if finished {
            reader.running.remove(id);
            reader.ended.insert(id.clone());
        }
    }

    fn commit(&mut self, index: u16) {
        let reader = &mut self.readers[usize::from(index)];
        if !reader.begun {
            return;
        }
        self.log.append(&mut reader.said);
        reader.saved.epoch = self.stream.epoch;
        for (id, progress) in std::mem::take(&mut reader.progress) {
            match progress {
                Some(progress) => reader.saved.shards.insert(id, progress),
                None => reader.saved.shards.remove(&id),
            };
        }
        reader.notes.clear();
    }

    /// All readers go on until nothing is left to read.
    fn settle(&mut self) {
        for _ in 0..self.world.made + 4 {
            for index in 0..READERS {
                self.look(index);
                let running: Vec<_> = self.readers[usize::from(index)].running.keys().cloned().collect();
                for shard in running {
                    self.read(index, &shard, usize::MAX);
                }
                self.commit(index);
            }
            self.repair();
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut last = BTreeMap::new();
        for record in &self.log {
            let before = last.insert(record.key, record.sequence);
            prop_assert!(
                before.is_none_or(|before| before < record.sequence),
                "key {}: {:?} then {}",
                record.key,
                before,
                record.sequence
            );
        }
        Ok(())
    }

    fn check_whole(&self, before_begin: usize) -> Result<(), TestCaseError> {
        let there: BTreeSet<_> = self.log.iter().map(|record| record.sequence).collect();
        prop_assert_eq!(there.len(), self.log.len());
        for (n, record) in self.world.all.iter().enumerate() {
            // What was there at the beginning may go before it is read: that is as much as was asked for.
            let wanted = n >= before_begin;
            let missed = wanted && !there.contains(&record.sequence);
            let named = self.windows.iter().any(|(from, to)| (*from..=*to).contains(&record.at_us));
            prop_assert!(!missed || named, "{:?} is missing in silence: {:?}", record, self.windows);
        }
        Ok(())
    }
}

fn run(before: &[Op], ops: &[Op], start: StreamStart) -> Result<Model, TestCaseError> {
    let mut world = World::new();
    for op in before {
        match *op {
            Op::Write { key } => world.write(key),
            Op::Split { shard } => world.replace(shard, 2),
            Op::Roll { shard } => world.replace(shard, 1),
            Op::Pass { minutes } => world.pass(minutes),
            Op::Look { .. } | Op::Read { .. } | Op::Commit { .. } | Op::Crash { .. } | Op::Repair => {}
        }
    }
    // The next record is later than the last: what counts is told by time.
    world.pass(1);
    let written = world.all.len();
    let mut model = Model::new(world, start);
    for op in ops {
        model.step(op);
        model.check()?;
    }
    model.settle();
    model.check()?;
    model.check_whole(written)?;
    Ok(model)
}

fn start() -> impl Strategy<Value = StreamStart> {
    prop_oneof![Just(StreamStart::Latest), Just(StreamStart::TrimHorizon)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_record_comes_once_and_in_order(
        before in prop::collection::vec(op(false), 0..30),
        ops in prop::collection::vec(op(false), 0..150),
        start in start(),
    ) {
        let model = run(&before, &ops, start)?;
        prop_assert!(model.losses.is_empty(), "nothing was trimmed: {:?}", model.losses);
        if start == StreamStart::TrimHorizon {
            prop_assert_eq!(model.log.len(), model.world.all.len());
        }
    }

    #[test]
    fn what_is_trimmed_unread_is_refused_with_its_window_and_never_silent(
        before in prop::collection::vec(op(true), 0..30),
        ops in prop::collection::vec(op(true), 0..200),
        start in start(),
    ) {
        run(&before, &ops, start)?;
    }
}
