//! A Postgres 15 of a test's own, the tables of the tests, and a state rebuilt from events.
#![allow(dead_code)] // each test binary uses its part

pub(crate) mod state;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use rollcall_model::log::Committed;
use rollcall_model::source::BackfillPlan;
use rollcall_model::{Fault, Position, Saved, Source, SourceEvent, TableRole, TableSpec, Transaction};
use rollcall_postgres_wire::{ConnectConfig, connect};
use rollcall_source_postgres::{PostgresSource, PostgresSourceConfig};
use tokio_postgres::Client;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// The schema that the tests read: shaped as the platform's, smaller.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE project (id int PRIMARY KEY, name text NOT NULL, doc text);
    CREATE TABLE identity (id int PRIMARY KEY, identifier varchar(2000) NOT NULL, note text);
    CREATE TABLE trait (id serial PRIMARY KEY, identity_id int NOT NULL REFERENCES identity DEFERRABLE INITIALLY DEFERRED,
        trait_key varchar(200) NOT NULL, value text, UNIQUE (trait_key, identity_id));
    CREATE INDEX ON trait (identity_id);
    ALTER TABLE trait REPLICA IDENTITY USING INDEX trait_trait_key_identity_id_key;
    CREATE PUBLICATION rollcall FOR TABLE project, identity, trait;";

pub(crate) fn tables() -> Vec<TableSpec> {
    vec![
        TableSpec {
            name: "project",
            role: TableRole::Catalog { key: "id" },
            columns: &["id", "name"],
            optional: &["doc"],
        },
        TableSpec {
            name: "identity",
            role: TableRole::Identity { key: "id" },
            columns: &["id", "identifier"],
            optional: &["note"],
        },
        TableSpec {
            name: "trait",
            role: TableRole::IdentityPart { identity: "identity_id", key: &["trait_key"] },
            columns: &["identity_id", "trait_key", "value"],
            optional: &[],
        },
    ]
}

pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
}

fn run(program: &str, arguments: &[&str]) {
    // Postgres refuses to run as root.
    let mut command = if fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    };
    let output =
        command.args(arguments).output().expect("can't start a program; install Debian's postgresql-15");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// Starts a server with some settings more, and makes the tables.
    pub(crate) async fn start(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("rollcall-source").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("rights");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let this = Self { folder, port };
        run(
            &format!("{BIN}/initdb"),
            &["-D", &this.path("data"), "-U", "postgres", "-A", "trust", "--no-sync"],
        );
        let conf = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nwal_level=logical\nfsync=off\n\
             shared_buffers=64MB\nmax_wal_senders=20\nmax_replication_slots=20\n{settings}\n"
        );
        fs::write(this.path("draft"), conf).expect("a draft");
        run(
            "sh",
            &["-c", &format!("cat '{}' >> '{}'", this.path("draft"), this.path("data/postgresql.conf"))],
        );
        this.up();
        if !settings.contains("wal_level=replica") {
            this.sql(SCHEMA).await;
        }
        this
    }

    pub(crate) fn up(&self) {
        run(&format!("{BIN}/pg_ctl"), &["-D", &self.path("data"), "-l", &self.path("log"), "-w", "start"]);
    }

    pub(crate) fn down(&self) {
        run(&format!("{BIN}/pg_ctl"), &["-D", &self.path("data"), "-m", "fast", "-w", "stop"]);
    }

    pub(crate) fn promote(&self) {
        run(&format!("{BIN}/pg_ctl"), &["-D", &self.path("data"), "-w", "promote"]);
    }

    pub(crate) fn as_postgres(&self, script: &str) {
        run("sh", &["-c", script]);
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn url(&self) -> String {
        self.url_as("postgres")
    }

    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/postgres?connect_timeout=60", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&ConnectConfig::parse(&self.url()).expect("a url")).await.expect("connects")
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.expect(sql);
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        self.client().await.query_one(sql, &[]).await.expect(sql).get(0)
    }

    pub(crate) fn config(&self) -> PostgresSourceConfig {
        let spill = self.folder.path().join("spill");
        let name = "core".into();
        let mut config = PostgresSourceConfig::new(name, self.url(), "rollcall", "rollcall", tables(), spill);
        config.heartbeat_ms = 200;
        config
    }

    pub(crate) async fn source(&self, from: Option<Position>) -> PostgresSource {
        self.source_with(self.config(), from, None).await
    }

    pub(crate) async fn source_with(
        &self,
        config: PostgresSourceConfig,
        from: Option<Position>,
        plan: Option<BackfillPlan>,
    ) -> PostgresSource {
        PostgresSource::start(config, from, plan).await.unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub(crate) async fn refusal(&self, config: PostgresSourceConfig, from: Option<Position>) -> Fault {
        PostgresSource::start(config, from, None).await.expect_err("must be refused")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stop = ["-D", &self.path("data"), "-m", "immediate", "-w", "stop"];
        if !std::thread::panicking() || fs::metadata(self.path("data/postmaster.pid")).is_ok() {
            run(&format!("{BIN}/pg_ctl"), &stop);
        }
    }
}

/// The next event; a test that waits this long waits for something that will not come.
pub(crate) async fn next(source: &mut PostgresSource) -> SourceEvent {
    tokio::time::timeout(Duration::from_secs(60), source.next())
        .await
        .expect("no event came")
        .unwrap_or_else(|fault| panic!("{fault}"))
}

/// The next transaction or piece.
pub(crate) async fn transaction(source: &mut PostgresSource) -> Transaction {
    loop {
        match next(source).await {
            SourceEvent::Transaction(transaction) => return transaction,
            SourceEvent::Idle { .. } => {}
            other @ (SourceEvent::Catalog(_) | SourceEvent::Page(_)) => panic!("unexpected {other:?}"),
        }
    }
}

/// What a log gives back when it has committed.
pub(crate) fn saved(position: &Position) -> Saved {
    Saved::by(&Committed::default(), position.clone())
}
