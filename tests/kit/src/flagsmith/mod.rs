//! A Flagsmith database that behaves: its schema, a seeded population, and a seeded load that writes as the platform
//! does.
//!
//! ```text
//! SCHEMA ─▶ populate(client, scale, seed) ─▶ World ─▶ Load::new(world, seed, worker) ─▶ step(client) … ─▶ oracle
//! ```
//!
//! `edge_item` makes identities as they stand at the edge, in DynamoDB.
//!
//! The same seed gives the same values and the same order of writes per worker. Each worker writes the identities and
//! segments whose id leaves its number as remainder, and those it made, so any number of them can run at once.

mod edge_items;
mod load;
mod load_catalog;
mod populate;
mod segments;
mod vocabulary;

pub use edge_items::edge_item;
pub use load::{Kind, Load, Step};
pub use populate::{Scale, populate};
pub use segments::{Condition, Form, Rule, Segment};
pub use vocabulary::{OPERATORS, TraitValue};

use std::collections::{BTreeMap, BTreeSet};

/// The fixture schema.
pub const SCHEMA: &str = include_str!("../../fixtures/flagsmith.sql");

/// Makes the tables in an empty database.
///
/// # Errors
/// What Postgres says.
pub async fn create_schema(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SCHEMA).await
}

/// An environment of the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Environment {
    /// Its id.
    pub id: i32,
    /// Its project.
    pub project: i32,
    /// The project's organisation.
    pub organisation: i32,
    /// Its api key.
    pub api_key: String,
}

/// What a population made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct World {
    /// Organisations, from 1.
    pub organisations: Vec<i32>,
    /// Environments, from 1; the projects have the organisations' numbers.
    pub environments: Vec<Environment>,
    /// Segments by id.
    pub segments: BTreeMap<i32, Segment>,
    /// Identities with their environment.
    pub identities: Vec<(i32, i32)>,
    /// The segments that must come out as unsupported, and no others.
    pub unsupported: BTreeSet<i32>,
}
