//! What Postgres says is wrong in, a [`Fault`] that names the repair out.
//!
//! DETAIL and HINT are never passed on, and neither is the message of data errors (classes 22 and 23): they quote
//! row values.

use std::io;

use rollcall_model::{Fault, FaultKind};

use crate::config::ConnectConfig;

/// SQLSTATE of "object in use" (a slot that another connection reads).
pub const OBJECT_IN_USE: &str = "55006";
/// SQLSTATE of "undefined object" (no such slot or publication).
pub const UNDEFINED_OBJECT: &str = "42704";

/// An error response of the server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{severity} {code}: {message}")]
pub struct ServerError {
    /// `FATAL`, `ERROR`, …, not translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The message, blank for data errors.
    pub message: String,
}

impl ServerError {
    /// From its parts; drops a message that may quote row values.
    #[must_use]
    pub fn new(severity: &str, code: &str, message: &str) -> Self {
        let message = if code.starts_with("22") || code.starts_with("23") { "(not shown)" } else { message };
        Self { severity: severity.to_owned(), code: code.to_owned(), message: message.to_owned() }
    }

    /// Reads the body of an `ErrorResponse`.
    pub(crate) fn parse(mut body: &[u8]) -> Self {
        let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
        while let Some((&field, rest)) = body.split_first() {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
            let text = || String::from_utf8_lossy(&rest[..end]).into_owned();
            match field {
                b'V' => severity = text(),
                b'C' => code = text(),
                b'M' => message = text(),
                0 => break,
                _ => {}
            }
            body = &rest[end + 1..];
        }
        Self::new(&severity, &code, &message)
    }

    /// Whether libpq's `allow` and `prefer` would try again with the other kind of connection.
    pub(crate) fn is_authorization(&self) -> bool {
        self.code == "28000"
    }

    /// The fault it means for somebody connected as `config` says.
    #[must_use]
    pub fn fault(&self, config: &ConnectConfig) -> Fault {
        let fault = match self.code.as_str() {
            "28P01" => Fault::config(format!("Postgres refuses the password of {config}"))
                .repair(format!("correct the password in the url, or: ALTER ROLE {} PASSWORD '…'", ident(&config.user))),
            "28000" => self.authorization(config),
            "3D000" => Fault::config(format!("there is no database '{}' at {config}", config.dbname))
                .repair("correct the database in the url"),
            "53300" => Fault::retry(format!("Postgres has no connection left for {config}")).repair(
                if self.message.contains("max_wal_senders") {
                    "ALTER SYSTEM SET max_wal_senders = 20; then restart Postgres"
                } else {
                    "close other connections, or: ALTER SYSTEM SET max_connections = 200; then restart Postgres"
                },
            ),
            "42501" if self.message.contains("replication") || self.message.contains("REPLICATION") => {
                Fault::config(format!("{config} may not replicate"))
                    .repair(format!("ALTER ROLE {} REPLICATION", ident(&config.user)))
            }
            "42501" => Fault::config(format!("{config} lacks a right"))
                .repair("rollcall setup --print-sql shows the grants that are needed"),
            OBJECT_IN_USE => Fault::retry("something that is needed is in use"),
            code => Fault::new(kind_of(code), format!("Postgres at {config} answers with an error")),
        };
        fault.from_source(self.clone())
    }

    fn authorization(&self, config: &ConnectConfig) -> Fault {
        let user = ident(&config.user);
        if self.message.contains("pg_hba.conf") {
            let kind =
                if self.message.contains("replication connection") { "replication" } else { &config.dbname };
            return Fault::config(format!("pg_hba.conf of Postgres lets {config} not in")).repair(format!(
                "add to pg_hba.conf a line such as\n    hostssl {kind} {} ADDRESS/32 scram-sha-256\n  \
                 (or set sslmode in the url as its lines ask for), then: SELECT pg_reload_conf()",
                config.user
            ));
        }
        if self.message.contains("does not exist") {
            return Fault::config(format!("there is no role '{}' at {config}", config.user))
                .repair(format!("CREATE ROLE {user} LOGIN REPLICATION PASSWORD '…'"));
        }
        Fault::config(format!("Postgres doesn't let {config} in"))
            .repair(format!("ALTER ROLE {user} LOGIN, or correct the user in the url"))
    }
}

/// What to do about a SQLSTATE that has no words of its own: by its class.
fn kind_of(code: &str) -> FaultKind {
    match code.get(..2).unwrap_or_default() {
        // connection, resources, operator intervention, system, internal, rolled back by a conflict
        "08" | "53" | "57" | "58" | "XX" | "40" | "55" => FaultKind::Retry,
        _ => FaultKind::Config,
    }
}

/// A name as SQL wants it quoted.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The fault that an error of the SQL client means.
#[must_use]
pub fn sql_fault(config: &ConnectConfig, doing: &str, error: tokio_postgres::Error) -> Fault {
    if let Some(db) = error.as_db_error() {
        let said = ServerError::new(db.severity(), db.code().code(), db.message());
        let mut fault = said.fault(config);
        fault.what = format!("{doing}: {}", fault.what);
        return fault;
    }
    Fault::retry(format!("{doing}: the connection to Postgres ({config}) failed")).from_source(error)
}

/// The fault that a failed socket means.
pub(crate) fn io_fault(config: &ConnectConfig, error: io::Error) -> Fault {
    let fault = if error.kind() == io::ErrorKind::ConnectionRefused {
        Fault::retry(format!("nothing answers at {config}"))
            .repair("check that Postgres runs there, and the host and port in the url")
    } else if error.kind() == io::ErrorKind::TimedOut {
        Fault::retry(format!("{config} doesn't answer in time"))
            .repair("check host, port and firewall, or raise connect_timeout in the url")
    } else {
        Fault::retry(format!("the connection to Postgres ({config}) failed"))
    };
    fault.from_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config() -> ConnectConfig {
        ConnectConfig::parse("postgres://al\"ice:secret@h/d").unwrap()
    }

    #[test]
    fn each_refusal_names_its_repair() {
        for (code, message, kind, repair) in [
            (
                "28P01",
                "password authentication failed",
                FaultKind::Config,
                "ALTER ROLE \"al\"\"ice\" PASSWORD",
            ),
            ("28000", "no pg_hba.conf entry for host \"::1\"", FaultKind::Config, "pg_reload_conf"),
            ("28000", "role \"al\" does not exist", FaultKind::Config, "CREATE ROLE"),
            ("3D000", "database \"d\" does not exist", FaultKind::Config, "database in the url"),
            ("53300", "sorry, too many clients already", FaultKind::Retry, "max_connections"),
            (
                "53300",
                "number of requested standby connections exceeds max_wal_senders",
                FaultKind::Retry,
                "max_wal_senders",
            ),
            (
                "42501",
                "must be superuser or replication role to start walsender",
                FaultKind::Config,
                "REPLICATION",
            ),
        ] {
            let fault = ServerError::new("FATAL", code, message).fault(&config());
            assert_eq!(fault.kind, kind, "{code} {message}");
            let shown = fault.to_string();
            assert!(shown.contains(repair) && !shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn row_values_are_not_shown() {
        let error = ServerError::parse(b"VERROR\0C22P02\0Minvalid input: \"alice@example.com\"\0\0");
        assert_eq!(error.code, "22P02");
        assert!(!error.fault(&config()).to_string().contains("alice@"));
    }

    #[test]
    fn a_literal_survives_quotes_and_backslashes() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
