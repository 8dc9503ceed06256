//! What comes out: parameters, formats, large results, late failures.

use clickhouse::Row;
use rollcall_test_servers::ClickHouse;
use serde::Deserialize;

use crate::{ask, client, encoded, post};

#[tokio::test]
async fn parameters_arrive_as_they_were() {
    let server = ClickHouse::temporary();
    let client = client(&server);
    let awkward = [
        "",
        "it's",
        "\"q\" `b`",
        r"back\slash \n \0 \'",
        "new\nline\ttab\r",
        "nul\0nul",
        "é→𝄞 \u{202e}",
        "{x:String}",
        "?",
        "--",
        "%00",
    ];
    for text in awkward {
        let by_param: String =
            client.query("SELECT {text:String}").param("text", text).fetch_one().await.unwrap();
        assert_eq!(by_param, text, "as a parameter");
        let bound: String = client.query("SELECT ?").bind(text).fetch_one().await.unwrap();
        assert_eq!(bound, text, "bound");
    }
    let list: Vec<String> = awkward.iter().map(|text| (*text).to_owned()).collect();
    let back: Vec<String> =
        client.query("SELECT {list:Array(String)}").param("list", &list).fetch_one().await.unwrap();
    assert_eq!(back, list);
    let found: u64 = client
        .query("SELECT count() FROM numbers(10) WHERE toString(number) IN {list:Array(String)} AND number > {low:Int64}")
        .param("list", vec!["1", "5", "x"])
        .param("low", -3)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(found, 2);
}

#[derive(Row, Deserialize)]
struct Numbered {
    number: u64,
    text: String,
}

#[tokio::test]
async fn a_large_result_streams_through_flat_memory() {
    const ROWS: u64 = 6_000_000;
    let server = ClickHouse::temporary();
    let client = client(&server);
    let sql = "SELECT number, repeat('x', 90) AS text FROM numbers(?)";
    let mut cursor = client.query(sql).bind(ROWS).fetch::<Numbered>().unwrap();
    let mut next = 0;
    while let Some(row) = cursor.next().await.unwrap() {
        assert_eq!((row.number, row.text.len()), (next, 90));
        next += 1;
    }
    assert_eq!(next, ROWS);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    // The result is 600 MB; the engine alone takes 200 to 300.
    assert!(peak_kb < 500_000, "peak {peak_kb} kB for a result of {ROWS} rows of 99 bytes");
}

#[tokio::test]
async fn a_failure_after_the_first_rows_is_seen() {
    let server = ClickHouse::temporary();
    let client = client(&server);
    let mut cursor = client
        .query("SELECT number, toString(throwIf(number = 3000000)) AS text FROM numbers(6000000) SETTINGS max_threads = 1")
        .fetch::<Numbered>()
        .unwrap();
    let mut rows = 0;
    let error = loop {
        match cursor.next().await {
            Ok(Some(_)) => rows += 1,
            Ok(None) => panic!("it ended well after {rows} rows"),
            Err(error) => break error,
        }
    };
    assert!(rows > 0, "rows came first");
    assert!(error.to_string().contains("Code: 395"), "{error}");
    // Before the first row the status says it.
    let (status, code, _) = post(&server, "", "SELECT throwIf(1)").await;
    assert_eq!((status, code), (500, Some(395)));
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let server = ClickHouse::start_with(folder.path(), &["--connections-max", "1"], &[]);
    let client = client(&server);
    for _ in 0..3 {
        let mut cursor = client
            .query("SELECT number, '' AS text FROM numbers(1000000000000)")
            .fetch::<Numbered>()
            .unwrap();
        assert_eq!(cursor.next().await.unwrap().unwrap().number, 0);
        drop(cursor);
        assert_eq!(ask(&server, "SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn a_streamed_document_is_the_one_that_comes_whole() {
    let server = ClickHouse::temporary();
    let sql = "SELECT number AS n, 'a\tb' AS `odd\nname` FROM numbers(300000)";
    for format in [
        "RowBinary",
        "RowBinaryWithNames",
        "RowBinaryWithNamesAndTypes",
        "Native",
        "TSV",
        "TSVWithNames",
        "TabSeparatedWithNamesAndTypes",
        "CSV",
        "CSVWithNames",
        "JSONEachRow",
        "JSONCompactEachRowWithNamesAndTypes",
    ] {
        let streamed = post(&server, &format!("default_format={format}"), sql).await;
        let whole = post(&server, &format!("wait_end_of_query=1&default_format={format}"), sql).await;
        assert_eq!((streamed.0, whole.0), (200, 200), "{format}");
        assert!(
            streamed.2 == whole.2,
            "{format}: {} bytes streamed, {} whole",
            streamed.2.len(),
            whole.2.len()
        );
    }
    // The engine cuts record batches as it likes, so Arrow is compared by what it holds.
    let arrow =
        post(&server, "default_format=ArrowStream", "SELECT number AS n FROM numbers(300000)").await.2;
    ask(&server, "CREATE TABLE back (n UInt64) ENGINE = Memory").await;
    let insert = format!("query={}", encoded("INSERT INTO back FORMAT ArrowStream"));
    assert_eq!(post(&server, &insert, arrow).await.0, 200);
    assert_eq!(ask(&server, "SELECT count(), sum(n), max(n) FROM back").await, "300000\t44999850000\t299999");

    let json = post(&server, "default_format=JSON", sql).await.2;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["rows"], json["data"].as_array().unwrap().len()), (&300_000.into(), 300_000));
    assert_eq!(ask(&server, "SELECT 1 AS a WHERE 0 FORMAT TSVWithNames").await, "a");
}

#[tokio::test]
async fn a_packed_answer_is_the_plain_one() {
    let server = ClickHouse::temporary();
    let sql = "SELECT number, repeat('y', number % 50) FROM numbers(200000)";
    let plain = post(&server, "", sql).await.2;
    let blocks = post(&server, "compress=1", sql).await.2;
    assert!(blocks.len() < plain.len() / 2);
    // The engine's own reader of blocks is the judge: its table function takes them back.
    ask(&server, "CREATE TABLE back (n UInt64, s String) ENGINE = Memory").await;
    let insert = format!("decompress=1&query={}", encoded("INSERT INTO back FORMAT TSV"));
    assert_eq!(post(&server, &insert, blocks).await.0, 200);
    assert_eq!(
        ask(&server, "SELECT * FROM back ORDER BY n").await,
        String::from_utf8(plain).unwrap().trim_end()
    );
}

#[tokio::test]
async fn statements_without_rows_answer_empty_and_ping_answers() {
    let server = ClickHouse::temporary();
    for sql in [
        "CREATE DATABASE d",
        "CREATE TABLE d.t (a Int32) ENGINE = MergeTree ORDER BY a",
        "OPTIMIZE TABLE d.t FINAL",
    ] {
        assert_eq!(ask(&server, sql).await, "");
    }
    assert_eq!(ask(&server, "SHOW TABLES FROM d").await, "t");
    assert_eq!(ask(&server, "EXISTS d.t").await, "1");
    assert_eq!(post(&server, "database=d", "SELECT count() FROM t").await.2, b"0\n");
    let ping = reqwest::get(format!("{}/ping", server.url())).await.unwrap();
    assert_eq!(ping.text().await.unwrap(), "Ok.\n");
    let tables: Vec<String> =
        client(&server).with_database("d").query("SHOW TABLES").fetch_all().await.unwrap();
    assert_eq!(tables, ["t"]);
}
