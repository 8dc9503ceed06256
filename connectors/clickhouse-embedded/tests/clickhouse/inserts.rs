//! What goes in is there, whole or not at all.

use bytes::Bytes;
use clickhouse::{Compression, Row};
use rollcall_test_servers::ClickHouse;
use serde::{Deserialize, Serialize};

use crate::{ask, client, encoded, post};

#[derive(Row, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Everything {
    id: i64,
    name: String,
    ratio: f64,
    flag: bool,
    perhaps: Option<String>,
    many: Vec<u64>,
    at: i64,
    traits: String,
}

const TABLE: &str = "CREATE TABLE everything (id Int64, name String, ratio Float64, flag Bool, perhaps Nullable(String), \
                     many Array(UInt64), at DateTime64(6), traits String) ENGINE = MergeTree ORDER BY id";

fn rows(range: std::ops::Range<i64>) -> impl Iterator<Item = Everything> {
    range.map(|id| Everything {
        id,
        name: format!("name '{id}' \\ \0 é→𝄞"),
        ratio: id as f64 / 3.0,
        flag: id % 2 == 0,
        perhaps: (id % 3 == 0).then(|| format!("perhaps {id}")),
        many: (0..u64::try_from(id % 5).unwrap()).collect(),
        at: 1_700_000_000_000_000 + id,
        traits: format!(r#"{{"plan":"gold","n":{id}}}"#),
    })
}

async fn insert(client: &clickhouse::Client, range: std::ops::Range<i64>) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Everything>("everything").await?;
    for row in rows(range) {
        insert.write(&row).await?;
    }
    insert.end().await
}

#[tokio::test]
async fn a_hundred_thousand_typed_rows_come_back_as_they_were() {
    let server = ClickHouse::temporary();
    for compression in [Compression::Lz4, Compression::None] {
        let client = client(&server).with_compression(compression);
        client.query("DROP TABLE IF EXISTS everything").execute().await.unwrap();
        client.query(TABLE).execute().await.unwrap();
        insert(&client, 0..100_000).await.unwrap();
        let mut cursor =
            client.query("SELECT ?fields FROM everything ORDER BY id").fetch::<Everything>().unwrap();
        for expected in rows(0..100_000) {
            assert_eq!(cursor.next().await.unwrap().as_ref(), Some(&expected));
        }
        assert_eq!(cursor.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_insert_dropped_midway_leaves_nothing() {
    let server = ClickHouse::temporary();
    let client = client(&server);
    client.query(TABLE).execute().await.unwrap();
    for _ in 0..5 {
        let mut insert = client.insert::<Everything>("everything").await.unwrap();
        // Enough for several pieces on the wire.
        for row in rows(0..20_000) {
            insert.write(&row).await.unwrap();
        }
        drop(insert);
    }
    insert(&client, 0..10).await.unwrap();
    assert_eq!(ask(&server, "SELECT count() FROM everything").await, "10");
}

#[tokio::test]
async fn writers_and_readers_work_side_by_side() {
    let server = ClickHouse::temporary();
    let client = client(&server);
    client.query(TABLE).execute().await.unwrap();
    let writers = (0..6).map(|writer: i64| {
        let client = client.clone();
        tokio::spawn(async move {
            for batch in 0..5 {
                let from = writer * 10_000 + batch * 2_000;
                insert(&client, from..from + 2_000).await.unwrap();
            }
        })
    });
    let readers = (0..6).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            for _ in 0..20 {
                let now: u64 = client.query("SELECT count() FROM everything").fetch_one().await.unwrap();
                assert!(
                    now >= seen && now.is_multiple_of(2_000),
                    "a batch is seen whole: {now} after {seen}"
                );
                seen = now;
            }
        })
    });
    for task in writers.chain(readers).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(ask(&server, "SELECT count(), uniqExact(id) FROM everything").await, "60000\t60000");
}

#[tokio::test]
async fn each_format_of_the_sink_is_taken() {
    let server = ClickHouse::temporary();
    ask(&server, "CREATE TABLE t (a UInt32, s String) ENGINE = MergeTree ORDER BY a").await;
    let arrow = post(
        &server,
        "default_format=ArrowStream",
        "SELECT toUInt32(number) AS a, 'arrow' AS s FROM numbers(200000)",
    )
    .await
    .2;
    for chunks in [1, 7] {
        let size = arrow.len().div_ceil(chunks);
        let mut insert = client(&server).insert_formatted_with("INSERT INTO t (a, s) FORMAT ArrowStream");
        for piece in arrow.chunks(size) {
            insert.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        insert.end().await.unwrap();
    }
    let url = |format: &str| format!("query={}", encoded(&format!("INSERT INTO t FORMAT {format}")));
    assert_eq!(
        post(&server, &url("JSONEachRow"), r#"{"a": 1, "s": "json"} {"a": 2, "s": "json"}"#).await.0,
        200
    );
    assert_eq!(post(&server, &url("RowBinary"), b"\x03\0\0\0\x06binary".to_vec()).await.0, 200);
    assert_eq!(
        post(&server, &format!("query={}", encoded("INSERT INTO t VALUES")), "(4, 'values;')").await.0,
        200
    );
    // The data of these stands in the statement itself.
    ask(&server, "INSERT INTO t VALUES (5, 'inline; or not')").await;
    ask(&server, "INSERT INTO t FORMAT JSONEachRow {\"a\": 6, \"s\": \"inline\"}").await;
    ask(&server, "INSERT INTO t SELECT 7, 'select'").await;
    let counts = ask(&server, "SELECT s, count() FROM t GROUP BY s ORDER BY s").await;
    let expected = "arrow\t400000\nbinary\t1\ninline\t1\ninline; or not\t1\njson\t2\nselect\t1\nvalues;\t1";
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn an_insert_says_how_many_rows_it_wrote() {
    let server = ClickHouse::temporary();
    ask(&server, "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a").await;
    let url = format!("{}/?query={}", server.url(), encoded("INSERT INTO t FORMAT TSV"));
    let response = reqwest::Client::new().post(url).body("1\n2\n3\n").send().await.unwrap();
    let summary: serde_json::Value =
        serde_json::from_str(response.headers()["x-clickhouse-summary"].to_str().unwrap()).unwrap();
    assert_eq!(summary["written_rows"], "3");
}

#[tokio::test]
async fn a_refused_insert_says_why_even_while_its_data_is_still_coming() {
    let server = ClickHouse::temporary();
    ask(&server, "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a").await;
    let mut body = "1\n".repeat(100);
    body.push_str("not a number\n");
    body.push_str(&"2\n".repeat(4_000_000));
    let query = format!("query={}", encoded("INSERT INTO t FORMAT TSV"));
    let (status, code, _) = post(&server, &query, body.clone()).await;
    assert_eq!((status, code), (400, Some(27)), "CANNOT_PARSE_INPUT_ASSERTION_FAILED");
    let (status, code, text) =
        post(&server, &format!("query={}", encoded("INSERT INTO nowhere FORMAT TSV")), body).await;
    assert_eq!((status, code), (404, Some(60)), "{}", String::from_utf8_lossy(&text));
    assert_eq!(ask(&server, "SELECT count() FROM t").await, "0");
}
