//! How long large batches take. Printed, not judged: `cargo test -p rollcall-sink-counts figures -- --nocapture`.

use std::time::Instant;

use rollcall_model::{Delivery, Sink};
use rollcall_sink_counts::Preset;

use crate::support::{Server, flagsmith, flagsmith_rows, live};

#[tokio::test]
async fn figures_of_ten_thousand_pairs() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 500, 20).await;
    let mut sink = server.sink(Preset::Flagsmith, 8).await;
    let batch = |partition, seq, count| -> Vec<Delivery> {
        (1..=500).flat_map(|s| (1..=20).map(move |e| live(s, e, partition, seq, count))).collect()
    };
    let steps = [
        ("insert", batch(0, 1, 5)),
        ("first part of another partition", batch(1, 1, 5)),
        ("update", batch(0, 2, 6)),
        ("update again", batch(0, 3, 7)),
        ("replay", batch(0, 3, 7)),
        ("one pair", vec![live(7, 7, 0, 4, 9)]),
        ("one pair again", vec![live(7, 7, 0, 5, 7)]),
        ("to zero in one of two partitions", batch(1, 2, 0)),
        ("to zero: all rows go", batch(0, 6, 0)),
    ];
    for (what, batch) in &steps {
        let start = Instant::now();
        sink.write(batch).await.expect("writes");
        println!("{:>6} pairs, {what}: {:.1} ms", batch.len(), start.elapsed().as_secs_f64() * 1e3);
    }
    let start = Instant::now();
    assert_eq!(sink.reconcile().await.expect("reconciles"), Vec::<String>::new());
    println!("reconcile of 20,000 ledger rows, nothing wrong: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    assert!(flagsmith_rows(&client).await.is_empty());
}
