//! Pages read beside the stream while writers work: after every transaction and every page, what was rebuilt from
//! pages must equal what the whole stream says; at the end both must equal the tables.
#![allow(clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_model::source::BackfillPlan;
use rollcall_model::{BackfillId, Lsn, NativeId, Point, Position, Source, SourceEvent};
use rollcall_source_postgres::PostgresSource;
use support::state::{State, int};
use support::{Server, next};

const IDENTITIES: i32 = 300;

fn plan(n: usize, catalog: bool, next_from: Option<NativeId>) -> BackfillPlan {
    BackfillPlan { id: BackfillId(format!("b{n}")), catalog, next_from }
}

fn one_change(random: &mut StdRng) -> String {
    let id = random.random_range(0..IDENTITIES);
    let other = random.random_range(0..IDENTITIES);
    let key = random.random_range(0..4);
    let n = random.random_range(0..1000);
    let long = format!("repeat(md5('{n}'), 100)"); // 3,200 bytes, stored out of line
    match random.random_range(0..100) {
        0..10 => format!("INSERT INTO identity VALUES ({id}, 'n{n}', {long}) ON CONFLICT DO NOTHING"),
        10..14 => format!("DELETE FROM trait WHERE identity_id = {id}; DELETE FROM identity WHERE id = {id}"),
        14..25 => format!("UPDATE identity SET identifier = 'n{n}' WHERE id = {id}"),
        25..28 => format!("UPDATE identity SET note = {long} WHERE id = {id}"),
        28..70 => format!(
            "INSERT INTO trait (identity_id, trait_key, value) SELECT id, 'k{key}', 'v{n}' FROM identity WHERE id = {id} FOR SHARE
             ON CONFLICT (trait_key, identity_id) DO UPDATE SET value = excluded.value"
        ),
        70..78 => format!("DELETE FROM trait WHERE identity_id = {id} AND trait_key = 'k{key}'"),
        78..82 => format!(
            "UPDATE trait SET identity_id = {other} WHERE identity_id = {id} AND trait_key = 'k{key}'
             AND EXISTS (SELECT FROM identity WHERE id = {other})
             AND NOT EXISTS (SELECT FROM trait WHERE identity_id = {other} AND trait_key = 'k{key}')"
        ),
        82..84 => format!(
            "UPDATE trait SET trait_key = 'r{key}' WHERE identity_id = {id} AND trait_key = 'k{key}'
             AND NOT EXISTS (SELECT FROM trait WHERE identity_id = {id} AND trait_key = 'r{key}')"
        ),
        84..88 => format!("UPDATE trait SET value = 'all{n}' WHERE identity_id BETWEEN {id} AND {id} + 60"),
        88..92 => format!("INSERT INTO project VALUES ({key}, 'p{n}', {long}) ON CONFLICT (id) DO UPDATE SET name = excluded.name"),
        92..94 => format!("DELETE FROM project WHERE id = {key}"),
        94..97 => "SAVEPOINT s; UPDATE identity SET identifier = 'undone'; ROLLBACK TO s".to_owned(),
        97 => "SAVEPOINT s; UPDATE identity SET identifier = identifier || '+' WHERE id < 9; RELEASE s".to_owned(),
        98 => "TRUNCATE trait".to_owned(),
        _ => "SELECT pg_sleep(0.02)".to_owned(),
    }
}

async fn write(server: Arc<Server>, seed: u64, transactions: usize, left: Arc<AtomicUsize>) {
    let mut random = StdRng::seed_from_u64(seed);
    let client = server.client().await;
    client.batch_execute("SET deadlock_timeout = '20ms'").await.expect("a setting");
    for _ in 0..transactions {
        let changes: Vec<_> = (0..random.random_range(1..5)).map(|_| one_change(&mut random)).collect();
        let end = if random.random_range(0..20) == 0 { "ROLLBACK" } else { "COMMIT" };
        // A deadlock or a broken foreign key rolls it back, as for any writer.
        if client.batch_execute(&format!("BEGIN; {}; {end}", changes.join("; "))).await.is_err() {
            client.batch_execute("ROLLBACK").await.expect("rolls back");
        }
    }
    left.fetch_sub(1, Ordering::AcqRel);
}

struct Watch {
    source: PostgresSource,
    truth: State,
    rebuilt: State,
    /// Whether the catalog has been rebuilt.
    catalog: bool,
    pages: usize,
    spilled: usize,
}

impl Watch {
    fn same(&self, ids: impl Iterator<Item = i64>, why: &str) {
        for id in ids {
            assert_eq!(self.rebuilt.people.get(&id), self.truth.people.get(&id), "identity {id} after {why}");
        }
        if self.catalog {
            assert_eq!(self.rebuilt.projects, self.truth.projects, "the catalog after {why}");
        }
    }

    /// Takes the next event; gives where it stands, and the end of its range if it is a page.
    async fn step(&mut self) -> (Position, Option<Option<NativeId>>) {
        match next(&mut self.source).await {
            SourceEvent::Transaction(transaction) => {
                self.spilled += usize::from(!transaction.complete);
                self.truth.apply(&transaction);
                self.rebuilt.apply(&transaction);
                let known = |id: &i64| self.rebuilt.people.contains_key(id);
                let touched: Vec<_> =
                    transaction.groups.iter().map(|group| int(&group.id)).filter(known).collect();
                self.same(touched.into_iter(), &format!("a transaction at {}", transaction.position));
                (transaction.position, None)
            }
            SourceEvent::Catalog(catalog) => {
                self.rebuilt.snapshot(&catalog);
                self.catalog = true;
                self.same(0..0, "the catalog was read");
                (catalog.position, None)
            }
            SourceEvent::Page(page) => {
                self.rebuilt.page(&page);
                self.pages += 1;
                let from = page.from.as_ref().map_or(0, int);
                let to = page.to.as_ref().map_or(i64::from(IDENTITIES), int);
                self.same(from..to, &format!("page {from}..{to} at {}", page.position));
                (page.position, Some(page.to))
            }
            SourceEvent::Idle { position, .. } => (position, None),
        }
    }
}

fn lsn(position: &Position) -> Lsn {
    let Point::Postgres { commit, .. } = &position.point else { panic!("{position}") };
    *commit
}

/// `ROLLCALL_SEED=n` adds to the seeds, to look further or to see a failure again.
fn seed(own: u64) -> u64 {
    let more = std::env::var("ROLLCALL_SEED")
        .ok()
        .map(|text| text.parse::<u64>().expect("ROLLCALL_SEED is a number"));
    more.unwrap_or_default() * 2 + own
}

async fn property(seed: u64) {
    // Commits wait for each other: a commit then stands in the WAL long before it is visible.
    let server = Arc::new(Server::start("fsync=on\ncommit_delay=3000\ncommit_siblings=1").await);
    server.sql("ALTER TABLE identity ALTER note SET STORAGE EXTERNAL; ALTER TABLE project ALTER doc SET STORAGE EXTERNAL").await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut config = server.config();
    config.page_rows = random.random_range(5..60);
    config.pages_in_flight = random.random_range(1..5);
    config.large_transaction_rows = random.random_range(4..16);
    config.piece_rows = random.random_range(3..9);
    config.retained_bytes_max = if seed.is_multiple_of(2) { 4_000 } else { 64 << 20 };
    let source = server.source_with(config, None, None).await;
    server
        .sql(
            "INSERT INTO identity SELECT n, 'n', repeat(md5(n::text), 100) FROM generate_series(0, 280) n;
             INSERT INTO trait (identity_id, trait_key, value) SELECT n, k, 'v' FROM generate_series(0, 280) n, unnest('{k0,k1}'::text[]) k",
        )
        .await;
    let mut watch = Watch {
        source,
        truth: State::default(),
        rebuilt: State::default(),
        catalog: false,
        pages: 0,
        spilled: 0,
    };
    let left = Arc::new(AtomicUsize::new(8));
    for n in 0..8 {
        tokio::spawn(write(Arc::clone(&server), seed * 100 + n, 80, Arc::clone(&left)));
    }
    let (mut runs, mut paused) = (0, None);
    while left.load(Ordering::Acquire) > 0 || runs == 0 {
        // A new backfill, by one who has forgotten everything.
        watch.rebuilt = State::default();
        watch.catalog = false;
        watch.source.backfill(Some(plan(runs, true, None))).expect("starts");
        loop {
            match watch.step().await.1 {
                Some(None) => break,
                Some(Some(to)) if random.random_range(0..6) == 0 => {
                    watch.source.backfill(None).expect("pauses");
                    paused = Some(to);
                }
                _ => {}
            }
            if random.random_range(0..8) == 0
                && let Some(to) = paused.take()
            {
                watch.source.backfill(Some(plan(runs, false, Some(to)))).expect("goes on");
            }
        }
        runs += 1;
    }
    let client = server.client().await;
    let end: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("reads").get(0);
    let end: Lsn = end.parse().expect("a position");
    while lsn(&watch.step().await.0) < end {}
    let tables = State::read(&client).await;
    assert_eq!(watch.truth, tables, "the stream says what the tables hold");
    assert_eq!(watch.rebuilt, tables, "the last backfill and the stream after it say what the tables hold");
    println!("seed {seed}: {runs} backfills, {} pages, {} pieces", watch.pages, watch.spilled);
    assert!(watch.pages > 5 && watch.spilled > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_beside_the_stream_are_exact() {
    property(seed(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_beside_the_stream_are_exact_when_little_may_be_retained() {
    property(seed(2)).await;
}
