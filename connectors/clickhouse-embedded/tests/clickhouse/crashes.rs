//! Kill it, stop it, start it: what was acknowledged is there.

use rollcall_clickhouse_embedded::{ClickHouseEmbedded, Config};
use rollcall_test_servers::ClickHouse;

use crate::{ask, encoded, until_running};

#[tokio::test]
async fn a_kill_keeps_everything_acknowledged_and_nothing_half() {
    const BATCH: u64 = 500;
    let mut server = ClickHouse::temporary();
    ask(&server, "CREATE TABLE t (batch UInt64, n UInt64) ENGINE = MergeTree ORDER BY (batch, n)").await;
    let mut acknowledged = 0;
    for round in 0..4 {
        let url = server.url();
        let writer = tokio::spawn(async move {
            let http = reqwest::Client::new();
            let mut done = 0;
            for batch in 0.. {
                let rows: String =
                    (0..BATCH).map(|n| format!("{}\t{n}\n", round * 1_000_000 + batch)).collect();
                let insert = format!("{url}/?query={}", encoded("INSERT INTO t FORMAT TSV"));
                let Ok(response) = http.post(insert).body(rows).send().await else { break };
                if !response.status().is_success() || response.bytes().await.is_err() {
                    break;
                }
                done += 1;
            }
            done
        });
        // Killed somewhere in its work, once there is some.
        while ask(&server, &format!("SELECT count() FROM t WHERE batch >= {}", round * 1_000_000)).await
            == "0"
        {}
        server.kill9();
        acknowledged += writer.await.unwrap();
        server.start_again();
        let whole: u64 =
            ask(&server, "SELECT count() FROM (SELECT batch FROM t GROUP BY batch HAVING count() = 500)")
                .await
                .parse()
                .unwrap();
        let all: u64 = ask(&server, "SELECT uniqExact(batch) FROM t").await.parse().unwrap();
        assert_eq!(whole, all, "a batch is there whole or not at all");
        // The insert that was under way may be there without its answer.
        assert!(
            all >= acknowledged && all <= acknowledged + round + 1,
            "{all} batches for {acknowledged} answers"
        );
    }
}

#[tokio::test]
async fn a_stop_lets_a_running_query_end() {
    let mut server = ClickHouse::temporary();
    let url = server.url();
    let query = tokio::spawn(async move {
        let ask =
            reqwest::Client::new().post(format!("{url}/")).body("SELECT sleepEachRow(1) FROM numbers(3)");
        ask.send().await.unwrap().text().await.unwrap()
    });
    until_running(&server, "sleepEachRow").await;
    let server = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    });
    assert_eq!(query.await.unwrap(), "0\n0\n0\n");
    let mut server = server.await.unwrap();
    server.start_again();
    assert_eq!(ask(&server, "SELECT 1").await, "1");
}

#[tokio::test]
async fn in_one_process_it_starts_on_one_folder_and_stops_and_starts_on_another() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for round in 0..2 {
        for folder in &folders {
            let running = ClickHouseEmbedded::start(Config::new(folder.path())).await.unwrap();
            let client = clickhouse::Client::default().with_url(running.url());
            let create = "CREATE TABLE IF NOT EXISTS t (n UInt64) ENGINE = MergeTree ORDER BY n";
            client.query(create).execute().await.unwrap();
            client.query("INSERT INTO t VALUES (?)").bind(round).execute().await.unwrap();
            assert_eq!(client.query("SELECT count() FROM t").fetch_one::<u64>().await.unwrap(), round + 1);

            let fault = ClickHouseEmbedded::start(Config::new(folder.path())).await.unwrap_err().to_string();
            assert!(
                fault.contains("is in use") && fault.contains(&folder.path().display().to_string()),
                "{fault}"
            );
            running.stop().await.unwrap();
            assert!(client.query("SELECT 1").execute().await.is_err(), "it listens no more");
        }
    }
}
