//! Rows and items become meaning: what a platform's tables say of identities and of the catalog.
//!
//! ```text
//!  Transaction ─┬─ catalog rows ──▶ Mapper::catalog ──▶ CatalogDelta { rows, docs }   (what differs at COMMIT)
//!               └─ groups ────────▶ Mapper::change  ──▶ Change                        (one per identity)
//!  CatalogSnapshot ───────────────▶ Mapper::catalog_snapshot ──▶ CatalogDelta         (the whole truth)
//!  Page ──────────────────────────▶ Mapper::page_change ──▶ Change
//!  topic `catalog-rows` ──────────▶ Mapper::restore                                   (after a restart)
//!  ItemState ─────────────────────▶ ItemPlatform::change ──▶ Change                   (one per item; nothing is kept)
//! ```
//!
//! A platform never asks the source: when a child's DELETE arrives, its parents may already be gone there. It joins
//! from the rows it has kept, and the rows it keeps are exactly those it put on `catalog-rows`, so a restarted mapper
//! knows what the one before it knew. Nothing here does I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{
    CatalogDoc, Change, EnvironmentId, Group, ItemState, OrganisationId, PageGroup, Row, RowChange,
    SourceName, TableSpec,
};

pub mod flagsmith;

/// A row of the topic `catalog-rows`.
#[derive(Clone, PartialEq, Debug)]
pub struct CatalogRow {
    /// `table/primary key`.
    pub key: String,
    /// The columns that mean something; `None` when the row is gone.
    pub row: Option<Row>,
}

/// A catalog row that can't be read: it changes nothing and belongs in quarantine.
#[derive(Clone, PartialEq, Debug)]
pub struct RejectedRow {
    /// The table.
    pub table: Arc<str>,
    /// Why.
    pub reason: String,
    /// The row change as JSON, for a person to read.
    pub raw: String,
}

/// What differs in the catalog after a transaction or a snapshot; empty when nothing does.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CatalogDelta {
    /// Rows for `catalog-rows`, in order of table and key.
    pub rows: Vec<CatalogRow>,
    /// Documents for `catalog`, environments first.
    pub docs: Vec<CatalogDoc>,
    /// Rows that could not be read.
    pub rejected: Vec<RejectedRow>,
}

impl CatalogDelta {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.docs.is_empty() && self.rejected.is_empty()
    }
}

/// The platforms that can be read from rows. A source of rows has one.
#[derive(Debug)]
pub enum Platform {
    /// Flagsmith's core Postgres schema.
    Flagsmith(flagsmith::Mapper),
}

impl Platform {
    /// The names that [`Platform::by_name`] knows.
    pub const NAMES: &'static [&'static str] = &["flagsmith"];

    /// The platform of a name in topology.yaml, reading for `source`. `edge` is the source that owns environments
    /// which the platform keeps elsewhere, if the topology has one.
    #[must_use]
    pub fn by_name(name: &str, source: SourceName, edge: Option<SourceName>) -> Option<Self> {
        match name {
            "flagsmith" => Some(Self::Flagsmith(flagsmith::Mapper::new(source).with_edge(edge))),
            _ => None,
        }
    }

    /// The tables it reads.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSpec> {
        match self {
            Self::Flagsmith(_) => flagsmith::tables(),
        }
    }

    /// Takes back one record of `catalog-rows`; emits nothing.
    pub fn restore(&mut self, table: &str, key: &str, row: Row) {
        match self {
            Self::Flagsmith(mapper) => mapper.restore(table, key, row),
        }
    }

    /// What a transaction changes in the catalog, judged at its COMMIT.
    pub fn catalog(&mut self, rows: &[RowChange], truncated: &[Arc<str>]) -> CatalogDelta {
        match self {
            Self::Flagsmith(mapper) => mapper.catalog(rows, truncated),
        }
    }

    /// What a snapshot of the whole catalog changes: rows that it doesn't hold are gone.
    pub fn catalog_snapshot(&mut self, tables: &BTreeMap<Arc<str>, Vec<Row>>) -> CatalogDelta {
        match self {
            Self::Flagsmith(mapper) => mapper.catalog_snapshot(tables),
        }
    }

    /// What a transaction says of one identity; `None` when it says nothing.
    #[must_use]
    pub fn change(&self, group: &Group) -> Option<Change> {
        match self {
            Self::Flagsmith(mapper) => mapper.change(group),
        }
    }

    /// What a page says of one identity: the whole image.
    #[must_use]
    pub fn page_change(&self, group: &PageGroup) -> Change {
        match self {
            Self::Flagsmith(mapper) => mapper.page_change(group),
        }
    }

    /// The organisation of an environment, where its gate stands; `None` when a row on the way is not known.
    #[must_use]
    pub fn organisation_of(&self, environment: &EnvironmentId) -> Option<OrganisationId> {
        match self {
            Self::Flagsmith(mapper) => mapper.organisation_of(environment),
        }
    }

    /// The live documents, as they were last emitted.
    pub fn documents(&mut self) -> Vec<CatalogDoc> {
        match self {
            Self::Flagsmith(mapper) => mapper.documents(),
        }
    }
}

/// The platforms whose identities can be read from items. A source of items has one; its catalog comes from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemPlatform {
    /// Flagsmith's edge: the table `flagsmith_identities`.
    FlagsmithEdge,
}

impl ItemPlatform {
    /// The names that [`ItemPlatform::by_name`] knows.
    pub const NAMES: &'static [&'static str] = &["flagsmith"];

    /// The platform of a name in topology.yaml.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "flagsmith" => Some(Self::FlagsmithEdge),
            _ => None,
        }
    }

    /// The attribute that is the table's key, of type S; an identity's native id is its text.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::FlagsmithEdge => flagsmith::EDGE_KEY,
        }
    }

    /// The attribute that names an item's environment, and the index that finds items by it.
    #[must_use]
    pub fn environment(self) -> (&'static str, &'static str) {
        match self {
            Self::FlagsmithEdge => (flagsmith::EDGE_ENVIRONMENT, flagsmith::EDGE_ENVIRONMENT_INDEX),
        }
    }

    /// What an item says of its identity.
    #[must_use]
    pub fn change(self, state: &ItemState) -> Change {
        match self {
            Self::FlagsmithEdge => flagsmith::item_change(state),
        }
    }
}
