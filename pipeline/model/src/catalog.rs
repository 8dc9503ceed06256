//! What identities are judged by. Whole documents on the compacted topic `catalog`, key `kind/id`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentId, OrganisationId, ProjectId, SegmentId, SourceName};

/// How the conditions of a rule, and its sub-rules, combine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RuleType {
    /// Every one holds.
    All,
    /// At least one holds.
    Any,
    /// None holds.
    None,
    /// A type this version doesn't know: the segment is unsupported.
    #[serde(untagged)]
    Unknown(String),
}

/// One comparison, as the platform stores it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// The operator's name; unknown ones make the segment unsupported.
    pub operator: String,
    /// A trait key, a JSONPath starting with `$.`, or nothing for a split by identity key.
    #[serde(default)]
    pub property: Option<String>,
    /// The operand as text. `None` is SQL NULL or JSON null.
    #[serde(default)]
    pub value: Option<String>,
}

/// A node of a segment's rule tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// How its parts combine.
    #[serde(rename = "type")]
    pub rule_type: RuleType,
    /// Its own comparisons.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Its sub-rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A segment. `deleted` documents stay, so that a roster that missed the deletion still empties it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentDoc {
    /// Its id; also the key that salts percentage splits.
    pub id: SegmentId,
    /// The project whose environments it is judged in.
    pub project_id: ProjectId,
    /// Its name, for people.
    pub name: String,
    /// The top-level rules; all must match, and a segment without rules matches nobody.
    pub rules: Vec<Rule>,
    /// Why the platform's rows of it can't be understood, if so: unsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// It is gone.
    #[serde(default)]
    pub deleted: bool,
}

/// An environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnvironmentDoc {
    /// Its id.
    pub id: EnvironmentId,
    /// Its api key: the `environment_id` of ClickHouse and `$.environment.key` of a rule.
    pub key: String,
    /// `$.environment.name` of a rule.
    pub name: String,
    /// Its project.
    pub project_id: ProjectId,
    /// The project's organisation, where the gate stands.
    pub organisation_id: OrganisationId,
    /// The one source whose identities of it are judged (PROTOCOL.md §1, Owner).
    pub owner: SourceName,
    /// What other sources call it in their identities, where that isn't its id (the api key, in DynamoDB).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub called: BTreeMap<SourceName, EnvironmentId>,
    /// Whether `identity.key` is `{environment key}_{identifier}` (else the native id).
    pub composite_identity_key: bool,
    /// It is gone.
    #[serde(default)]
    pub deleted: bool,
}

/// What happens to the identities of an organisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMode {
    /// Judged.
    #[default]
    On,
    /// Images flow, nothing is judged.
    Off,
    /// Dropped at the source; images deleted.
    Exclude,
}

/// A gate of the topology, applied as a catalog document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GateDoc {
    /// The organisation, or `None` for all that have no gate of their own.
    pub organisation_id: Option<OrganisationId>,
    /// The mode; `None` takes the organisation's own gate away.
    pub mode: Option<GateMode>,
}

/// A document of the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CatalogDoc {
    /// A segment.
    Segment(SegmentDoc),
    /// An environment.
    Environment(EnvironmentDoc),
    /// A gate.
    Gate(GateDoc),
}

impl CatalogDoc {
    /// Its key on the topic.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Segment(doc) => format!("segment/{}", doc.id),
            Self::Environment(doc) => format!("environment/{}", doc.id),
            Self::Gate(GateDoc { organisation_id: Some(id), .. }) => format!("gate/{id}"),
            Self::Gate(GateDoc { organisation_id: None, .. }) => "gate".to_owned(),
        }
    }
}

/// A document as it stands on the topic: which writer's catalog number it came with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Who wrote it: a source, or `topology` for gates.
    pub writer: SourceName,
    /// The writer's catalog number.
    pub number: u64,
    /// The document.
    #[serde(flatten)]
    pub doc: CatalogDoc,
}
