//! What Postgres says → what to do about it.
//!
//! Only the error's code and first line are passed on: its detail line may show a row.

use rollcall_model::{Fault, FaultKind};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// A failed statement as a fault. `doing` says what was tried.
pub(crate) fn fault(doing: &str, error: Error) -> Fault {
    let Some(db) = error.as_db_error() else {
        // Broken connections, and answers that don't decode.
        return if error.is_closed() || is_io(&error) {
            Fault::retry(format!("{doing}: the connection to Postgres broke")).from_source(error)
        } else {
            Fault::bug(format!("{doing}: an answer of Postgres could not be read")).from_source(error)
        };
    };
    let code = db.code();
    let what = format!("{doing}: {} (SQLSTATE {})", db.message(), code.code());
    match kind(code) {
        FaultKind::Config => Fault::config(what).repair(
            "run `rollcall setup --print-sql` and let an administrator of the database run what it prints, \
             then start the counts task again",
        ),
        FaultKind::Refused => Fault::refused(what).repair(
            "the tables changed under the sink: run `rollcall setup` to make what is missing, then start the counts \
             task again; if the ledger was dropped, `rollcall rebuild counts`",
        ),
        kind @ (FaultKind::Retry | FaultKind::BadRecord | FaultKind::Fenced | FaultKind::Bug) => {
            Fault::new(kind, what)
        }
    }
}

/// Passing faults are those where a rollback left nothing behind and the same batch may succeed: conflicts, locks and
/// timeouts, shutdowns and failovers, lack of room, and a foreign key that a concurrent delete broke.
fn kind(code: &SqlState) -> FaultKind {
    let class = code.code().get(..2).unwrap_or_default();
    let passing = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::FOREIGN_KEY_VIOLATION,
    ];
    if passing.contains(code) || matches!(class, "08" | "40" | "53" | "58" | "57") {
        FaultKind::Retry
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE || class == "28" {
        FaultKind::Config
    } else if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME]
        .contains(code)
    {
        FaultKind::Refused
    } else {
        FaultKind::Bug
    }
}

fn is_io(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_answer() {
        for (code, expected) in [
            (SqlState::T_R_DEADLOCK_DETECTED, FaultKind::Retry),
            (SqlState::T_R_SERIALIZATION_FAILURE, FaultKind::Retry),
            (SqlState::LOCK_NOT_AVAILABLE, FaultKind::Retry),
            (SqlState::ADMIN_SHUTDOWN, FaultKind::Retry),
            (SqlState::DISK_FULL, FaultKind::Retry),
            (SqlState::CONNECTION_FAILURE, FaultKind::Retry),
            (SqlState::INSUFFICIENT_PRIVILEGE, FaultKind::Config),
            (SqlState::INVALID_PASSWORD, FaultKind::Config),
            (SqlState::UNDEFINED_TABLE, FaultKind::Refused),
            (SqlState::CHECK_VIOLATION, FaultKind::Bug),
            (SqlState::SYNTAX_ERROR, FaultKind::Bug),
        ] {
            assert_eq!(kind(&code), expected, "{}", code.code());
        }
    }
}
