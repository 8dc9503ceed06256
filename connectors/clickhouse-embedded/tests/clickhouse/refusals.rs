//! What a server refuses is refused here with the same code.

use rollcall_test_servers::{ClickHouse, free_port};

use crate::{ask, client, encoded, post};

#[tokio::test]
async fn bad_requests_get_a_servers_codes() {
    let server = ClickHouse::temporary();
    ask(&server, "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a").await;
    for (query, body, status, code) in [
        ("", "SELEC 1", 400, 62),
        ("", "", 400, 62),
        ("", "SELECT 1; SELECT 2", 400, 62),
        ("", "SELECT * FROM nowhere", 404, 60),
        ("", "SELECT nothing FROM t", 404, 47),
        ("", "SELECT nofunction(1)", 404, 46),
        ("database=nowhere", "SELECT 1", 404, 81),
        ("no_such_setting=1", "SELECT 1", 404, 115),
        ("a%3D1%2C%20max_threads=2", "SELECT 1", 404, 115),
        ("", "SELECT 1 FORMAT Nonsense", 404, 73),
        ("", "SELECT {missing:String}", 500, 456),
        ("max_threads=many", "SELECT 1", 400, 27),
        ("session_timeout=99999&session_id=x", "SELECT 1", 500, 374),
        ("session_check=1&session_id=never", "SELECT 1", 500, 372),
        ("max_result_rows=10", "SELECT number FROM numbers(100000)", 500, 396),
    ] {
        let (got_status, got_code, text) = post(&server, query, body).await;
        let text = String::from_utf8_lossy(&text);
        assert_eq!(got_code, Some(code), "{query} {body}: {text}");
        assert_eq!(got_status, status, "{query} {body}: {text}");
        assert!(text.starts_with(&format!("Code: {code}. DB::Exception: ")), "{text}");
    }
    let error = client(&server).query("SELECT * FROM nowhere").execute().await.unwrap_err();
    assert!(error.to_string().contains("Code: 60"), "{error}");
}

#[tokio::test]
async fn get_only_reads() {
    let server = ClickHouse::temporary();
    let get = |sql: &str| reqwest::get(format!("{}/?query={}", server.url(), encoded(sql)));
    assert_eq!(get("SELECT 1").await.unwrap().text().await.unwrap(), "1\n");
    let refused = get("CREATE TABLE t (a UInt32) ENGINE = Memory").await.unwrap();
    assert_eq!(refused.headers()["x-clickhouse-exception-code"], "164");
    let refused = get("INSERT INTO t FORMAT TSV").await.unwrap();
    assert_eq!(refused.headers()["x-clickhouse-exception-code"], "164");
}

#[tokio::test]
async fn only_the_login_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let secret = [("ROLLCALL_CLICKHOUSE_PASSWORD", "s3cret")];
    let server = ClickHouse::start_with(folder.path(), &["--user", "writer"], &secret);
    let one = |client: clickhouse::Client| async move { client.query("SELECT 1").fetch_one::<u8>().await };
    assert_eq!(one(client(&server).with_user("writer").with_password("s3cret")).await.unwrap(), 1);
    for refused in [
        client(&server),
        client(&server).with_user("writer"),
        client(&server).with_user("writer").with_password("s3cre"),
        client(&server).with_user("other").with_password("s3cret"),
    ] {
        let error = one(refused).await.unwrap_err().to_string();
        assert!(error.contains("Code: 516") && !error.contains("s3cret"), "{error}");
    }
    let (status, code, _) = post(&server, "user=writer&password=no", "SELECT 1").await;
    assert_eq!((status, code), (403, Some(516)));
    assert_eq!(post(&server, "user=writer&password=s3cret", "SELECT 1").await.2, b"1\n");
    let basic =
        reqwest::Client::new().post(server.url()).basic_auth("writer", Some("s3cret")).body("SELECT 1");
    assert_eq!(basic.send().await.unwrap().text().await.unwrap(), "1\n");
}

#[tokio::test]
async fn a_start_that_fails_says_what_to_do() {
    let server_folder = tempfile::tempdir().unwrap();
    let server = ClickHouse::start(server_folder.path());
    let fails = |mut command: std::process::Command| {
        let output = command.env("RUST_LOG", "off").output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8(output.stderr).unwrap()
    };
    let listen = format!("127.0.0.1:{}", free_port());

    let error = fails(ClickHouse::command(server_folder.path(), &listen));
    assert!(
        error.contains(&server_folder.path().display().to_string()) && error.contains("is in use"),
        "{error}"
    );

    let other = tempfile::tempdir().unwrap();
    let error = fails(ClickHouse::command(other.path(), server.url().trim_start_matches("http://")));
    assert!(error.contains("can't listen on") && error.contains("choose another port"), "{error}");

    let error = fails(ClickHouse::command(other.path(), "0.0.0.0:0"));
    assert!(error.contains("personal data") && error.contains("password"), "{error}");

    let mut command = ClickHouse::command(other.path(), &listen);
    command.env("ROLLCALL_LIBCHDB", other.path().join("nothing.so"));
    let error = fails(command);
    assert!(error.contains("nothing.so") && error.contains("tests/servers/install"), "{error}");

    let mut command = ClickHouse::command(other.path(), &listen);
    command.env_remove("ROLLCALL_LIBCHDB").env("ROLLCALL_SERVERS", other.path());
    let error = fails(command);
    assert!(error.contains("libchdb.so") && error.contains("tests/servers/install"), "{error}");

    let not_a_library = other.path().join("text.so");
    std::fs::write(&not_a_library, "text").unwrap();
    let mut command = ClickHouse::command(other.path(), &listen);
    command.env("ROLLCALL_LIBCHDB", &not_a_library);
    let error = fails(command);
    assert!(error.contains("text.so is not the ClickHouse engine"), "{error}");
    assert_eq!(ask(&server, "SELECT 1").await, "1", "the first one is as it was");
}
