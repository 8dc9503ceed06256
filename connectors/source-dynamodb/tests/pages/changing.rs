//! A table that is written while it is read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rollcall_model::ItemPages;
use rollcall_source_dynamodb::Scan;

use crate::number;
use crate::table::{Table, identity};

/// A write: its number (none is a delete), when it was begun, when it was answered.
type Write = (Option<u64>, i64, i64);

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// Every item is as it was at its page's cut or later, and no later than its page's end: what the page claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_as_of_its_cut_or_later() {
    const ITEMS: usize = 300;
    let table = Arc::new(Table::start().await);
    let ids = table.fill("env", ITEMS).await;
    let filled_us = now_us();
    let writes: Arc<Mutex<BTreeMap<String, Vec<Write>>>> = Arc::default();
    for (n, id) in ids.iter().enumerate() {
        writes.lock().unwrap().insert(id.clone(), vec![(Some(n as u64), 0, filled_us)]);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (table, writes, stop) = (Arc::clone(&table), Arc::clone(&writes), Arc::clone(&stop));
        async move {
            let mut n = 1_000_u64;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let at = (n.wrapping_mul(7_919) % ITEMS as u64) as usize;
                let id = format!("env_{at:06}");
                let written = (!n.is_multiple_of(5)).then_some(n);
                let begun_us = now_us();
                match written {
                    Some(n) => table.put(identity("env", &format!("{at:06}"), n)).await,
                    None => table.delete(&id).await,
                }
                writes.lock().unwrap().entry(id).or_default().push((written, begun_us, now_us()));
            }
        }
    });
    let mut config = table.config();
    // Slack would hide what is tested; the clock here is the server's own.
    (config.page_items, config.clock_slack_ms) = (20, 0);
    for _ in 0..5 {
        let mut scan = Scan::start(&config, None).await.unwrap();
        loop {
            let page = scan.next().await.unwrap();
            for item in &page.items {
                let found = number(&item.state);
                let writes = writes.lock().unwrap();
                let history = &writes[&item.id.to_string()];
                let Some(at) = history.iter().position(|(n, ..)| *n == found) else { continue };
                assert!(history[at].1 <= page.until_us, "{} was written after the page", item.id);
                // `Date` is in whole seconds: the cut is up to one too early, never too late.
                if let Some((n, _, answered_us)) = history.get(at + 1) {
                    assert!(*answered_us >= page.cut_us, "{}: {n:?} is missing in {found:?}", item.id);
                }
            }
            if page.done {
                break;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
}
