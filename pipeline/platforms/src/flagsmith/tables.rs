//! The tables of Flagsmith's core database that Rollcall reads, and what ties their rows together.
//!
//! ```text
//! organisation ◀── project ◀─┬─ environment ◀── identity ◀── trait
//!                            └─ segment ◀── rule ◀─┬─ rule (sub-rule)
//!                                                  └─ condition
//! ```

use std::sync::{Arc, LazyLock};

use rollcall_model::{Cell, Row, TableRole, TableSpec};

/// The identity table.
pub const IDENTITY: &str = "environments_identity";
/// The trait table.
pub const TRAIT: &str = "environments_trait";

/// A table of the catalog. The order is the order in which rows are put on `catalog-rows`: parents first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Table {
    Organisation,
    Project,
    Environment,
    Segment,
    Rule,
    Condition,
}

/// A foreign key: which rows of a child table point at a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Link {
    ProjectsOfOrganisation,
    EnvironmentsOfProject,
    SegmentsOfProject,
    RulesOfSegment,
    RulesOfRule,
    ConditionsOfRule,
}

impl Table {
    pub(super) const ALL: [Self; 6] =
        [Self::Organisation, Self::Project, Self::Environment, Self::Segment, Self::Rule, Self::Condition];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisations_organisation",
            Self::Project => "projects_project",
            Self::Environment => "environments_environment",
            Self::Segment => "segments_segment",
            Self::Rule => "segments_segmentrule",
            Self::Condition => "segments_condition",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The columns that must exist, `id` first.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Organisation => &["id", "deleted_at"],
            Self::Project => &["id", "organisation_id", "deleted_at"],
            Self::Environment => &["id", "name", "project_id", "api_key", "deleted_at"],
            Self::Segment => &["id", "name", "project_id", "version_of_id", "deleted_at"],
            Self::Rule => &["id", "segment_id", "rule_id", "type", "deleted_at"],
            Self::Condition => &["id", "rule_id", "operator", "property", "value", "deleted_at"],
        }
    }

    /// The columns that older or newer versions of the platform lack.
    const fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Project => &["enable_dynamo_db"],
            Self::Environment => &["use_mv_v2_evaluation"],
            Self::Segment => &["rules_data"],
            Self::Organisation | Self::Rule | Self::Condition => &[],
        }
    }

    pub(super) const fn links(self) -> &'static [(Link, &'static str)] {
        match self {
            Self::Organisation => &[],
            Self::Project => &[(Link::ProjectsOfOrganisation, "organisation_id")],
            Self::Environment => &[(Link::EnvironmentsOfProject, "project_id")],
            Self::Segment => &[(Link::SegmentsOfProject, "project_id")],
            Self::Rule => &[(Link::RulesOfSegment, "segment_id"), (Link::RulesOfRule, "rule_id")],
            Self::Condition => &[(Link::ConditionsOfRule, "rule_id")],
        }
    }

    /// The row with the columns that mean something and nothing else; a column that isn't there reads as NULL.
    /// So an UPDATE that touches only other columns (`updated_at`, `version`) leaves the kept row as it was.
    pub(super) fn meaning_of(self, row: &Row) -> Row {
        let columns = &KEPT_COLUMNS[self as usize];
        let cells = columns.iter().map(|name| row.get(name).cloned().unwrap_or(Cell::Null)).collect();
        Row { columns: Arc::clone(columns), cells }
    }
}

static KEPT_COLUMNS: LazyLock<[Arc<[Arc<str>]>; 6]> = LazyLock::new(|| {
    Table::ALL
        .map(|table| table.required().iter().chain(table.optional()).map(|name| Arc::from(*name)).collect())
});

/// The tables that Rollcall reads from Flagsmith's core database.
#[must_use]
pub fn tables() -> Vec<TableSpec> {
    let catalog = Table::ALL.into_iter().map(|table| TableSpec {
        name: table.name(),
        role: TableRole::Catalog { key: "id" },
        columns: table.required(),
        optional: table.optional(),
    });
    let identities = [
        TableSpec {
            name: IDENTITY,
            role: TableRole::Identity { key: "id" },
            columns: &["id", "identifier", "environment_id"],
            optional: &["system_traits"],
        },
        TableSpec {
            name: TRAIT,
            role: TableRole::IdentityPart { identity: "identity_id", key: &["trait_key"] },
            columns: &[
                "identity_id",
                "trait_key",
                "value_type",
                "boolean_value",
                "integer_value",
                "string_value",
                "float_value",
            ],
            optional: &[],
        },
    ];
    catalog.chain(identities).collect()
}
