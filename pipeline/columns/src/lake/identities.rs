//! Images and tombstones: the row that ClickHouse gets, and in `record` what it leaves out.
//!
//! A living identity of a known environment is in its columns; `record` adds its place and, where there are any, what
//! the columns can't tell (the traits that system traits of the same key hide, parked places, …). Of every other
//! identity the columns say that it is gone, and `record` holds its state whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{RecordBatch, StringArray};
use rollcall_model::{
    EnvironmentId, Fault, IdentityRecord, IdentityState, Image, LogId, NativeId, OutRecord, Partition, Place,
    Seen, Seq, Traits, Version,
};
use serde::{Deserialize, Serialize};

use super::read::Columns;
use super::write::{finish, foreign};
use crate::identities::{Live, Rows};
use crate::schema::{ColumnType, TableSchema, column};
use crate::traits::read_texts;

/// Its columns: those of [`crate::IDENTITIES`], and `record`.
pub(super) const SCHEMA: TableSchema = TableSchema {
    name: "lake_identities",
    version: 1,
    columns: &[
        column("environment_id", ColumnType::Utf8),
        column("id", ColumnType::Utf8),
        column("identifier", ColumnType::Utf8),
        column("identity_key", ColumnType::Utf8),
        column("traits", ColumnType::Utf8),
        column("traits_tagged", ColumnType::Utf8),
        column("system_traits", ColumnType::Utf8),
        column("inserted_at", ColumnType::TimestampUs),
        column("is_deleted", ColumnType::UInt8),
        column("source", ColumnType::Utf8),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
        column("record", ColumnType::Utf8),
    ],
};

/// What the column `record` holds of an identity.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    place: Place,
    /// The environment as its source calls it; of an identity that is in its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    /// Plain traits whose key is a system trait's too.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    hidden_traits: Traits,
    /// The state of an identity that is not in its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<IdentityState>,
    /// Whether that one is deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    deleted: bool,
    /// The id is text that reads as a number.
    #[serde(default, skip_serializing_if = "is_false")]
    id_is_text: bool,
    /// Where its column is empty, and it isn't unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment_key: Option<String>,
    /// Where its column is empty, and it isn't unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    left_environment_keys: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parked: Vec<Place>,
    #[serde(default, skip_serializing_if = "Seen::is_nothing")]
    seen: Seen,
}

// `serde` hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// An id as the column shows it, read back where nothing else is said.
fn id_of(text: &str) -> NativeId {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => NativeId::Int(number),
        Ok(_) | Err(_) => NativeId::Text(Arc::from(text)),
    }
}

pub(super) fn batch<'a>(records: impl Iterator<Item = &'a OutRecord>) -> Result<RecordBatch, Fault> {
    let mut rows = Rows::default();
    let mut rest = StringBuilder::new();
    for record in records {
        match record {
            OutRecord::Identity(record) => push(&mut rows, &mut rest, record)?,
            OutRecord::Watermark(_) => {}
            OutRecord::Membership(_) | OutRecord::MembershipChange(_) | OutRecord::Count(_) => {
                return Err(foreign(&SCHEMA, record));
            }
        }
    }
    let mut columns = rows.columns();
    columns.push(Arc::new(rest.finish()));
    finish(&SCHEMA, columns)
}

fn push(rows: &mut Rows, rest: &mut StringBuilder, record: &IdentityRecord) -> Result<(), Fault> {
    // No reader can ask for the image of an unknown environment: to them it is gone.
    let environment_key = record.environment_key.as_deref().unwrap_or_default();
    let live = if environment_key.is_empty() { None } else { Live::of(record)? };
    let text = serde_json::to_string(&rest_of(record, live.is_some()))
        .map_err(|e| Fault::bug("an identity doesn't serialise").from_source(e))?;
    rows.push(record, environment_key, live);
    rest.append_value(text);
    for left in record.left_environment_keys.iter().filter(|left| *left != environment_key) {
        rows.push(record, left, None);
        rest.append_value("");
    }
    Ok(())
}

fn rest_of(record: &IdentityRecord, is_in_columns: bool) -> Rest {
    let environment_column = record.environment_key.as_deref().unwrap_or_default();
    let image = match &record.state {
        IdentityState::Live(image) if is_in_columns => Some(image),
        IdentityState::Live(_) | IdentityState::Deleted | IdentityState::Pending { .. } => None,
    };
    let hidden = |image: &Image| -> Traits {
        let both = image.traits.iter().filter(|(key, _)| image.system_traits.contains_key(*key));
        both.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    // The column says it of an identity that is in its columns, unless it is empty.
    let identity_key = record.identity_key.as_ref().filter(|key| image.is_none() || key.is_empty());
    Rest {
        place: record.place,
        environment: image.map(|image| image.environment_id.clone()),
        hidden_traits: image.map(hidden).unwrap_or_default(),
        state: if image.is_some() { None } else { Some(record.state.clone()) },
        deleted: record.deleted,
        id_is_text: id_of(&record.id.to_string()) != record.id,
        environment_key: record.environment_key.clone().filter(|_| environment_column.is_empty()),
        identity_key: identity_key.cloned(),
        left_environment_keys: record.left_environment_keys.clone(),
        parked: record.parked.clone(),
        seen: record.seen.clone(),
    }
}

pub(super) fn records(batch: &RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    let columns = Columns::of(&SCHEMA, batch);
    let rest = columns.text("record")?;
    let own = (0..batch.num_rows()).filter(|row| !rest.value(*row).is_empty());
    let (environment_key, id) = (columns.text("environment_id")?, columns.text("id")?);
    let (identity_key, image) = (columns.text("identity_key")?, ImageColumns::of(&columns)?);
    let (version, source) = (columns.micros("inserted_at")?, columns.text("source")?);
    let (partition, seq) = (columns.u16("partition")?, columns.u64("seq")?);
    let log_id = columns.text("log_id")?;
    let record = |row: usize| {
        let rest: Rest = serde_json::from_str(rest.value(row))
            .map_err(|e| columns.wrong_row(row, "its record can't be read").from_source(e))?;
        let state = match (rest.state, rest.environment) {
            (Some(state), None) => state,
            (None, Some(environment)) => {
                IdentityState::Live(image.get(&columns, row, environment, rest.hidden_traits)?)
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(columns.wrong_row(row, "its record doesn't say where its state is"));
            }
        };
        let id = id.value(row);
        let shown = |column: &StringArray| Some(column.value(row).to_owned()).filter(|text| !text.is_empty());
        Ok(OutRecord::Identity(IdentityRecord {
            log_id: LogId(log_id.value(row).to_owned()),
            partition: Partition(partition.value(row)),
            seq: Seq(seq.value(row)),
            version: Version(version.value(row)),
            deleted: rest.deleted,
            source: source.value(row).into(),
            id: if rest.id_is_text { NativeId::Text(Arc::from(id)) } else { id_of(id) },
            environment_key: shown(environment_key).or(rest.environment_key),
            identity_key: shown(identity_key).or(rest.identity_key),
            state,
            left_environment_keys: rest.left_environment_keys,
            place: rest.place,
            parked: rest.parked,
            seen: rest.seen,
        }))
    };
    own.map(record).collect()
}

/// What an image is made of again.
struct ImageColumns<'a> {
    identifier: &'a StringArray,
    traits: &'a StringArray,
    traits_tagged: &'a StringArray,
    system_traits: &'a StringArray,
}

impl<'a> ImageColumns<'a> {
    fn of(columns: &Columns<'a>) -> Result<Self, Fault> {
        Ok(Self {
            identifier: columns.text("identifier")?,
            traits: columns.text("traits")?,
            traits_tagged: columns.text("traits_tagged")?,
            system_traits: columns.text("system_traits")?,
        })
    }

    fn get(
        &self,
        columns: &Columns<'_>,
        row: usize,
        environment_id: EnvironmentId,
        hidden_traits: Traits,
    ) -> Result<Image, Fault> {
        let mut traits = read_texts(self.traits.value(row), self.traits_tagged.value(row))
            .map_err(|e| columns.wrong_row(row, "its traits can't be read").from_source(e))?;
        let system_traits: Traits = match self.system_traits.value(row) {
            "" => Traits::new(),
            text => serde_json::from_str(text)
                .map_err(|e| columns.wrong_row(row, "its system traits can't be read").from_source(e))?,
        };
        traits.retain(|key, _| !system_traits.contains_key(key));
        traits.extend(hidden_traits);
        Ok(Image { environment_id, identifier: self.identifier.value(row).to_owned(), traits, system_traits })
    }
}
