//! The embedded ClickHouse on the real engine, asked by the official `clickhouse` crate with its defaults and by plain
//! HTTP. Every server is a process of its own, since one process runs one engine.
#![allow(clippy::unwrap_used)]

mod crashes;
mod inserts;
mod refusals;
mod selects;
mod sessions;

use clickhouse::Client;
use rollcall_test_servers::ClickHouse;

/// A client of the official crate as a program makes it.
fn client(server: &ClickHouse) -> Client {
    Client::default().with_url(server.url())
}

/// A request by plain HTTP: `query` is the URL's query string.
async fn post(
    server: &ClickHouse,
    query: &str,
    body: impl Into<reqwest::Body>,
) -> (u16, Option<u32>, Vec<u8>) {
    let url = format!("{}/?{query}", server.url());
    let response = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let code = response.headers().get("x-clickhouse-exception-code");
    let code = code.map(|code| code.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), code, response.bytes().await.unwrap().to_vec())
}

/// The text of an answer that must be good.
async fn ask(server: &ClickHouse, sql: &str) -> String {
    let (status, _, body) = post(server, "", sql.to_owned()).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{sql}: {text}");
    text.trim_end().to_owned()
}

/// Text for a URL.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Waits until a query that holds these words runs.
async fn until_running(server: &ClickHouse, words: &str) {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE position(query, '{words}') > 0 AND query NOT LIKE '%system%'"
    );
    while ask(server, &sql).await == "0" {}
}
