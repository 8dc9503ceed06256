//! Sessions keep what they should, requests nothing.

use rollcall_test_servers::ClickHouse;

use crate::{ask, client, post, until_running};

async fn text(server: &ClickHouse, query: &str, sql: &str) -> String {
    let (status, _, body) = post(server, query, sql.to_owned()).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{query} {sql}: {text}");
    text.trim_end().to_owned()
}

#[tokio::test]
async fn a_session_keeps_its_tables_and_settings_and_a_request_keeps_none() {
    let server = ClickHouse::temporary();
    text(&server, "session_id=one", "CREATE TEMPORARY TABLE mine (a UInt8)").await;
    text(&server, "session_id=one", "INSERT INTO mine VALUES (7)").await;
    assert_eq!(text(&server, "session_id=one&session_check=1", "SELECT a FROM mine").await, "7");
    assert_eq!(post(&server, "session_id=two", "SELECT a FROM mine").await.1, Some(60));
    assert_eq!(post(&server, "", "SELECT a FROM mine").await.1, Some(60));

    let setting = "SELECT getSetting('max_block_size')";
    let default = ask(&server, setting).await;
    text(&server, "session_id=one", "SET max_block_size = 1234").await;
    assert_eq!(text(&server, "session_id=one", setting).await, "1234");
    // A request's own settings and database are for that request alone, also when it fails.
    assert_eq!(text(&server, "session_id=one&max_block_size=99&database=system", setting).await, "99");
    assert_eq!(post(&server, "session_id=one&max_block_size=98", "SELECT nothing").await.1, Some(47));
    assert_eq!(text(&server, "session_id=one", setting).await, "1234");
    assert_eq!(text(&server, "session_id=one", "SELECT currentDatabase()").await, "default");
    assert_eq!(text(&server, "max_block_size=77", setting).await, "77");
    assert_eq!(ask(&server, setting).await, default);

    let session = client(&server).with_setting("session_id", "one");
    assert_eq!(session.query("SELECT a FROM mine").fetch_one::<u8>().await.unwrap(), 7);
}

#[tokio::test]
async fn a_session_serves_one_request_at_a_time_and_ends() {
    let server = ClickHouse::temporary();
    let long = post(&server, "session_id=busy&query_id=long", "SELECT sleepEachRow(1) FROM numbers(3)");
    let meanwhile = async {
        until_running(&server, "sleepEachRow").await;
        let same_id = post(&server, "query_id=long", "SELECT 1").await;
        assert_eq!(same_id.1, Some(216), "{}", String::from_utf8_lossy(&same_id.2));
        post(&server, "session_id=busy", "SELECT 1").await
    };
    let (long, meanwhile) = tokio::join!(long, meanwhile);
    assert_eq!(long.0, 200);
    assert_eq!(meanwhile.1, Some(373), "{}", String::from_utf8_lossy(&meanwhile.2));
    assert_eq!(text(&server, "session_id=busy", "SELECT 1").await, "1");
    assert_eq!(text(&server, "query_id=long", "SELECT 1").await, "1");

    text(&server, "session_id=short&session_timeout=0", "SELECT 1").await;
    assert_eq!(post(&server, "session_id=short&session_check=1", "SELECT 1").await.1, Some(372));
}
