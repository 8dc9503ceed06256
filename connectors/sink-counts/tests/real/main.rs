//! The counts sink on a real Postgres: random histories against a plain sum, then case by case.

mod cases;
mod figures;
mod history;
mod new_counts;
mod rights;
mod support;
