//! Identities at the edge and a load on them: each write by the operation that the platform uses for it.
//!
//! ```text
//! Edge (where items live) ─▶ fill(table) ─▶ EdgeLoad::new(edge, table, writer of writers) ─▶ step() …
//! ```
//!
//! A seed repeats its values and the order of writes of each writer. A writer writes the items whose number leaves its
//! own as remainder, and those it made, so any number of them can run at once.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall_kit::flagsmith::{Form, World, edge_item};
use rollcall_model::{Attribute, Item};

use crate::{Failure, Table};

/// Items that are made before they are written: what a test has in memory at once.
const FILL_ITEMS: usize = 5_000;
/// Neighbours share an environment, so that each writer has items in all of them.
const NEIGHBOURS: usize = 7;

/// What lives at the edge.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The environments' api keys; one that stands here twice has twice as many items.
    homes: Vec<String>,
    /// System traits that segments ask for.
    cohorts: Vec<String>,
    /// Items at the start, numbered from 0.
    items: usize,
    /// Maps without entries are written.
    empty_maps: bool,
}

impl Edge {
    /// So many items, shared among `homes`.
    #[must_use]
    pub fn new(world: &World, homes: Vec<String>, items: usize) -> Self {
        let cohorts = world.segments.values().filter(|segment| segment.form == Form::Cohort);
        let cohorts = cohorts.flat_map(|segment| &segment.rules).flat_map(|rule| &rule.conditions);
        let cohorts = cohorts.filter_map(|condition| condition.property.clone()).collect();
        Self { homes, cohorts, items, empty_maps: true }
    }

    /// Leaves out maps without entries: DynamoDB Local has them as `{}` in its stream, which is no value at all. (Scans and AWS
    /// say `{"M": {}}`.)
    #[must_use]
    pub fn without_empty_maps(self) -> Self {
        Self { empty_maps: false, ..self }
    }

    /// Item number `n`; all but its key comes from `rng`.
    fn item(&self, rng: &mut StdRng, n: usize) -> Item {
        let mut item = edge_item(rng, &self.homes[n / NEIGHBOURS % self.homes.len()], n);
        if rng.random_bool(0.1) {
            item.extend(self.cohort(rng).map(|traits| ("system_traits".to_owned(), traits)));
        }
        if !self.empty_maps {
            item.retain(|_, value| !matches!(value, Attribute::M(map) if map.is_empty()));
        }
        item
    }

    /// System traits of one who is in a cohort.
    fn cohort(&self, rng: &mut StdRng) -> Option<Attribute> {
        let cohort = self.cohorts.choose(rng)?;
        Some(Attribute::M(Item::from([(cohort.clone(), Attribute::Bool(true))])))
    }

    /// Writes the items of the start.
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn fill(&self, table: &Table, seed: u64) -> Result<(), Failure> {
        let mut rng = StdRng::seed_from_u64(seed);
        for from in (0..self.items).step_by(FILL_ITEMS) {
            let to = (from + FILL_ITEMS).min(self.items);
            let items: Vec<_> = (from..to).map(|n| self.item(&mut rng, n)).collect();
            table.write(&items, &[]).await?;
        }
        Ok(())
    }
}

/// The key of an item.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn key_of(item: &Item) -> String {
    match item.get("composite_key") {
        Some(Attribute::S(key)) => key.clone(),
        Some(_) | None => panic!("an item without a key"),
    }
}

/// One writer.
#[derive(Debug)]
pub struct EdgeLoad {
    edge: Edge,
    table: Table,
    rng: StdRng,
    /// Its items that are there, by number.
    alive: Vec<usize>,
    next: usize,
    writers: usize,
}

impl EdgeLoad {
    /// Writer `writer` of `writers`, counted from 0.
    #[must_use]
    pub fn new(edge: &Edge, table: &Table, seed: u64, writer: usize, writers: usize) -> Self {
        let alive: Vec<usize> = (writer..edge.items).step_by(writers).collect();
        let next = alive.last().map_or(writer, |last| last + writers);
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_033).wrapping_add(writer as u64));
        Self { edge: edge.clone(), table: table.clone(), rng, alive, next, writers }
    }

    /// One write; how many items it touched.
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn step(&mut self) -> Result<u64, Failure> {
        match self.rng.random_range(0..100) {
            0..45 => self.replace().await,
            45..60 => self.set("identity_traits").await,
            60..75 => self.set("system_traits").await,
            75..83 => self.create().await,
            83..91 => self.delete().await,
            91..94 => self.recreate().await,
            94..97 => self.batch().await,
            _ => self.often().await,
        }
    }

    fn some(&mut self) -> Option<(usize, Item)> {
        let n = *self.alive.choose(&mut self.rng)?;
        Some((n, self.edge.item(&mut self.rng, n)))
    }

    /// The platform reads an item, changes it and writes it whole.
    async fn replace(&mut self) -> Result<u64, Failure> {
        let Some((_, item)) = self.some() else { return Ok(0) };
        self.table.put(&item).await?;
        if self.rng.random_bool(0.1) {
            // As it is already: no record comes of that.
            self.table.put(&item).await?;
        }
        Ok(1)
    }

    /// One attribute alone; without a value it is taken away.
    async fn set(&mut self, name: &str) -> Result<u64, Failure> {
        let Some((_, item)) = self.some() else { return Ok(0) };
        let there = self.table.update(&key_of(&item), name, item.get(name)).await?;
        Ok(u64::from(there))
    }

    async fn create(&mut self) -> Result<u64, Failure> {
        let item = self.edge.item(&mut self.rng, self.next);
        self.table.put(&item).await?;
        self.alive.push(self.next);
        self.next += self.writers;
        Ok(1)
    }

    /// By the platform, or by DynamoDB itself when its time has come: it is the same to a reader.
    async fn delete(&mut self) -> Result<u64, Failure> {
        let Some((n, item)) = self.some() else { return Ok(0) };
        self.table.delete(&key_of(&item)).await?;
        self.alive.retain(|there| *there != n);
        Ok(1)
    }

    async fn recreate(&mut self) -> Result<u64, Failure> {
        let Some((_, item)) = self.some() else { return Ok(0) };
        self.table.delete(&key_of(&item)).await?;
        self.table.put(&item).await?;
        Ok(1)
    }

    /// Items written, deleted and made in one call.
    async fn batch(&mut self) -> Result<u64, Failure> {
        let from = self.rng.random_range(0..self.alive.len().max(1));
        let mut numbers: Vec<usize> = self.alive.iter().skip(from).take(20).copied().collect();
        let deleted = numbers.split_off(numbers.len() * 3 / 4);
        numbers.push(self.next);
        self.next += self.writers;
        self.alive.extend(numbers.last());
        self.alive.retain(|there| !deleted.contains(there));
        let puts: Vec<_> = numbers.iter().map(|n| self.edge.item(&mut self.rng, *n)).collect();
        let deletes: Vec<_> = deleted.iter().map(|n| key_of(&self.edge.item(&mut self.rng, *n))).collect();
        self.table.write(&puts, &deletes).await?;
        Ok((puts.len() + deletes.len()) as u64)
    }

    /// One item again and again: many records with the same second.
    async fn often(&mut self) -> Result<u64, Failure> {
        let Some((n, _)) = self.some() else { return Ok(0) };
        let times = self.rng.random_range(2..8);
        for _ in 0..times {
            let item = self.edge.item(&mut self.rng, n);
            self.table.put(&item).await?;
        }
        Ok(times)
    }
}
