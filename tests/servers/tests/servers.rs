//! The servers start, keep their data over a crash, and go away.

use rollcall_test_servers::{PgVersion, Postgres, python};
use std::process::Command;

#[test]
fn postgres_of_both_versions_keeps_its_data_over_a_crash() {
    for (version, major) in [(PgVersion::V15, "15"), (PgVersion::V18, "18")] {
        let mut postgres = Postgres::start(version, &[("max_replication_slots", "12")]);
        assert!(postgres.psql("SHOW server_version").starts_with(major));
        assert_eq!(postgres.psql("SHOW wal_level"), "logical");
        assert_eq!(postgres.psql("SHOW max_replication_slots"), "12", "the test's settings win");
        postgres.psql("CREATE TABLE kept(n int); INSERT INTO kept VALUES (7)");
        postgres.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
        let (url, pid) = (postgres.url(), postgres.pid());
        postgres.kill9();
        assert!(postgres.try_psql(&url, "SELECT 1").is_err());
        postgres.start_again();
        assert_ne!(postgres.pid(), pid);
        assert_eq!(postgres.psql("SELECT n FROM kept"), "7");
        postgres.restart();
        assert_eq!(postgres.psql("SELECT count(*) FROM pg_replication_slots"), "1");

        let (data, pid) = (postgres.data_path(), postgres.pid());
        drop(postgres);
        assert!(!data.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_wrong_password_is_refused_where_passwords_are_asked_for() {
    let postgres = Postgres::start_with_passwords(PgVersion::V15, &[]);
    assert_eq!(postgres.psql("SELECT 1"), "1");
    let error = postgres.try_psql(&postgres.url_of("postgres", "wrong", "postgres"), "SELECT 1");
    assert!(error.is_err_and(|error| error.contains("password authentication failed")));
}

#[test]
fn two_servers_have_ports_and_data_of_their_own() {
    let (one, two) = (Postgres::start(PgVersion::V15, &[]), Postgres::start(PgVersion::V15, &[]));
    one.psql("CREATE TABLE only_here()");
    assert_eq!(two.psql("SELECT count(*) FROM pg_class WHERE relname = 'only_here'"), "0");
}

#[test]
fn the_reference_rules_engine_can_be_asked() {
    let output = Command::new(python())
        .args(["-c", "import flag_engine.segments.evaluator"])
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
