//! Against a real Postgres 15: ways of connecting, what each refusal says, and TLS as `sslmode` means it.
#![allow(clippy::unwrap_used)]

mod server;

use rollcall_model::{Fault, FaultKind};
use rollcall_postgres_wire::replication::{Event, Replication};
use rollcall_postgres_wire::{ConnectConfig, connect};
use server::Server;

async fn refusal(url: &str) -> (Fault, Fault) {
    let config = ConnectConfig::parse(url).unwrap();
    let sql = connect(&config).await.expect_err("must be refused");
    let replication = Replication::connect(&config).await.expect_err("must be refused");
    (sql, replication)
}

async fn encrypted(url: &str) -> bool {
    let config = ConnectConfig::parse(url).unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let client = connect(&config).await.unwrap();
    let over_sql: bool = client.query_one(sql, &[]).await.unwrap().get(0);
    let rows = Replication::connect(&config).await.unwrap().query(sql).await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some(if over_sql { b"t".as_slice() } else { b"f".as_slice() }));
    over_sql
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_authentication_works_on_both_paths() {
    let server = Server::start();
    for user in ["scram", "md5", "plain", "trusted"] {
        let password = if user == "trusted" { "" } else { ":pass%20word" };
        assert!(
            encrypted(&server.url(&format!("{user}{password}"), "postgres", "sslmode=require")).await,
            "{user}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_means_what_libpq_means() {
    let server = Server::start();
    let url = |mode: &str| server.url("scram:pass%20word", "postgres", mode);
    assert!(!encrypted(&url("sslmode=disable")).await);
    assert!(!encrypted(&url("sslmode=allow")).await);
    assert!(encrypted(&url("sslmode=prefer")).await);
    assert!(encrypted(&url(&format!("sslmode=verify-full&sslrootcert={}", server.root()))).await);
    // the certificate names localhost, not 127.0.0.1
    let by_address = |mode: &str| {
        url(&format!("sslmode={mode}&sslrootcert={}", server.root())).replace("localhost", "127.0.0.1")
    };
    assert!(encrypted(&by_address("verify-ca")).await);
    assert!(encrypted(&by_address("require")).await);
    let (fault, again) = refusal(&by_address("verify-full")).await;
    assert_eq!((fault.kind, again.kind), (FaultKind::Config, FaultKind::Config));
    assert!(fault.to_string().contains("sslrootcert"), "{fault}");
    // a root that did not sign it
    let (fault, _) = refusal(&url(&format!("sslmode=require&sslrootcert={}", server.other_root()))).await;
    assert_eq!(fault.kind, FaultKind::Config, "{fault}");
    // pg_hba.conf of these roles wants one kind of connection: the second attempt finds it
    assert!(encrypted(&server.url("onlytls:pass%20word", "postgres", "sslmode=allow")).await);
    assert!(!encrypted(&server.url("onlyplain:pass%20word", "postgres", "sslmode=prefer")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let server = Server::start();
    for (login, database, kind, says) in [
        ("scram:wrong", "postgres", FaultKind::Config, "ALTER ROLE \"scram\" PASSWORD"),
        ("nobody:x", "postgres", FaultKind::Config, ""),
        ("banned:pass%20word", "postgres", FaultKind::Config, "pg_reload_conf"),
        ("scram:pass%20word", "nowhere", FaultKind::Config, "no database 'nowhere'"),
        ("scram", "postgres", FaultKind::Config, "password"),
    ] {
        let (sql, replication) = refusal(&server.url(login, database, "")).await;
        for fault in [sql, replication] {
            assert_eq!(fault.kind, kind, "{login}: {fault}");
            let shown = format!("{fault} {fault:?}");
            assert!(
                shown.contains(says) && !shown.contains("pass word") && !shown.contains("wrong"),
                "{login}: {shown}"
            );
        }
    }
    let config = ConnectConfig::parse(&server.url("norepl:pass%20word", "postgres", "")).unwrap();
    let fault = Replication::connect(&config).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(fault.to_string().contains("ALTER ROLE \"norepl\" REPLICATION"), "{fault}");
    let (fault, _) = refusal("postgres://u:p@127.0.0.1:1/d").await;
    assert!(fault.kind == FaultKind::Retry && fault.to_string().contains("nothing answers"), "{fault}");
    let (fault, _) = refusal("postgres://u:p@no-such-host.invalid/d?connect_timeout=5").await;
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_brings_messages_and_forgets_only_what_is_saved() {
    let server = Server::start();
    let config =
        ConnectConfig::parse(&server.url("scram:pass%20word", "postgres", "sslmode=require")).unwrap();
    let client = connect(&config).await.unwrap();
    client.batch_execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await.unwrap();
    let mut replication = Replication::connect(&config).await.unwrap();
    assert_eq!(replication.identify().await.unwrap().timeline, 1);
    let options = [("proto_version", "1"), ("publication_names", "\"p\""), ("messages", "true")];
    let mut stream = replication.start("s", rollcall_model::Lsn(0), &options).await.unwrap();
    let row =
        client.query_one("SELECT pg_logical_emit_message(true, 'x', 'hello')::text", &[]).await.unwrap();
    let emitted: rollcall_model::Lsn = row.get::<_, String>(0).parse().unwrap();
    let mut kinds = String::new();
    while kinds != "BMC" {
        let mut chunk = stream.next().await.unwrap();
        while let Some(event) = chunk.next_event().unwrap() {
            if let Event::Data { payload, .. } = event {
                kinds.push(char::from(payload[0]));
            }
        }
    }
    let standby = stream.standby();
    assert!(standby.received() >= emitted);
    let confirmed = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots";
    let before: bool = client.query_one(confirmed, &[&emitted.to_string()]).await.unwrap().get(0);
    assert!(!before, "nothing is confirmed before it is saved");
    standby.saved(standby.received());
    while !client.query_one(confirmed, &[&emitted.to_string()]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
}
