//! The rows of one identity → one change.
//!
//! ```text
//! environments_identity: INSERT ─▶ Upsert with the traits of the same transaction    DELETE ─▶ Delete
//!                        UPDATE ─▶ Patch { environment, identifier, system traits }
//! environments_trait:    INSERT, UPDATE ─▶ Patch.set, or .unchanged where the text was not sent      DELETE ─▶ .unset
//! ```
//!
//! A group is folded row by row and judged once, at its end. An identity row that a transaction deletes and inserts
//! again under the same id is an update of that row, hence a Patch: foreign keys are deferred, so its trait rows may
//! have stayed, and those that went say so themselves. One that a transaction inserts and deletes says nothing.
//!
//! A trait's value is what the platform's model reads: the typed column that `value_type` names, whatever the other
//! typed columns still hold. `value_type` NULL or of another spelling, and a NULL in the typed column, read as no
//! value (Python's `None`), which is judged as not set.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use rollcall_model::{
    Cell, Change, EnvironmentId, Group, Image, PageGroup, Patch, Row, RowOp, Traits, Value,
};
use serde_json::value::RawValue;

use super::cells;
use super::tables::{IDENTITY, TRAIT};

/// What a trait row needs beyond what the stream sent, and what brings it.
const REPLICA_IDENTITY: &str = "ALTER TABLE environments_trait REPLICA IDENTITY FULL";

/// Where the row of the identity table stands.
enum Standing {
    /// Not spoken of.
    Kept,
    /// As this row says; `true` when it was not there before the transaction.
    Is(Row, bool),
    /// Gone; `true` when it was not there before the transaction.
    Gone(bool),
}

/// Where a row of the trait table stands.
enum TraitRow {
    /// As this row says. `moved` is true when it came from another key or identity, so that a text which was not sent
    /// isn't the one that the image holds under this key.
    Is { row: Row, moved: bool },
    /// Gone.
    Gone,
}

/// The fold of one identity's rows in a transaction.
struct Fold<'a> {
    id: &'a rollcall_model::NativeId,
    identity: Standing,
    traits: BTreeMap<String, TraitRow>,
}

/// A trait's value as its row says.
enum Read {
    Value(Value),
    /// Text that was not sent.
    Unsent,
}

pub(super) fn change(group: &Group) -> Option<Change> {
    let mut fold = Fold { id: &group.id, identity: Standing::Kept, traits: BTreeMap::new() };
    let folded = group.rows.iter().try_for_each(|change| match &*change.table {
        IDENTITY => fold.identity_row(&change.op),
        TRAIT => fold.trait_row(&change.op),
        _ => Ok(()),
    });
    match fold.identity {
        Standing::Gone(true) => return None,
        // What can't be understood of a row that is gone doesn't matter any more.
        Standing::Gone(false) => return Some(Change::Delete),
        Standing::Kept | Standing::Is(..) => {}
    }
    match folded.and_then(|()| fold.finish()) {
        Ok(change) => change,
        Err(reason) => {
            Some(Change::Invalid { reason, raw: serde_json::to_string(&group.rows).unwrap_or_default() })
        }
    }
}

pub(super) fn page_change(group: &PageGroup) -> Change {
    whole(group).map_or_else(
        |reason| {
            let raw = serde_json::to_string(&(&group.identity, &group.parts)).unwrap_or_default();
            Change::Invalid { reason, raw }
        },
        |image| Change::Upsert { image },
    )
}

fn whole(group: &PageGroup) -> Result<Image, String> {
    let rows = group.parts.iter().filter(|(table, _)| ***table == *TRAIT).flat_map(|(_, rows)| rows);
    let traits = rows.map(|row| {
        let key = trait_key(row)?;
        let value = sent(read(row)?)?;
        Ok((key, value))
    });
    image(&group.identity, traits.collect::<Result<_, String>>()?)
}

impl Fold<'_> {
    fn identity_row(&mut self, op: &RowOp) -> Result<(), String> {
        let was_absent = match &self.identity {
            Standing::Kept => None,
            Standing::Is(_, was_absent) | Standing::Gone(was_absent) => Some(*was_absent),
        };
        self.identity = match op {
            RowOp::Insert(row) => Standing::Is(row.clone(), was_absent.unwrap_or(true)),
            RowOp::Delete(_) => Standing::Gone(was_absent.unwrap_or(false)),
            RowOp::Update { new, .. } if !self.is_mine(new, "id") => {
                Standing::Gone(was_absent.unwrap_or(false))
            }
            RowOp::Update { old, new } => {
                let renumbered = old.as_ref().is_some_and(|old| !self.is_mine(old, "id"));
                let mut row = new.clone();
                cells::fill_unchanged(&mut row, old.as_ref());
                if let Standing::Is(earlier, _) = &self.identity {
                    cells::fill_unchanged(&mut row, Some(earlier));
                }
                Standing::Is(row, was_absent.unwrap_or(renumbered))
            }
        };
        Ok(())
    }

    fn trait_row(&mut self, op: &RowOp) -> Result<(), String> {
        match op {
            RowOp::Insert(row) => {
                self.traits.insert(trait_key(row)?, TraitRow::Is { row: row.clone(), moved: false });
            }
            RowOp::Delete(row) => {
                self.traits.insert(trait_key(row)?, TraitRow::Gone);
            }
            RowOp::Update { old, new } => {
                let was_mine = old.as_ref().is_none_or(|old| self.is_mine(old, "identity_id"));
                let old_key = match old.as_ref().and_then(|old| old.get("trait_key")) {
                    Some(Cell::Text(key)) => key.clone(),
                    Some(_) | None => trait_key(new)?,
                };
                let mut row = new.clone();
                cells::fill_unchanged(&mut row, old.as_ref());
                let key = trait_key(&row)?;
                let mut moved = !was_mine || old_key != key;
                if was_mine
                    && let Some(TraitRow::Is { row: earlier, moved: earlier_moved }) =
                        self.traits.get(&old_key)
                {
                    cells::fill_unchanged(&mut row, Some(earlier));
                    moved |= earlier_moved;
                }
                if was_mine && (old_key != key || !self.is_mine(new, "identity_id")) {
                    self.traits.insert(old_key, TraitRow::Gone);
                }
                if self.is_mine(new, "identity_id") {
                    self.traits.insert(key, TraitRow::Is { row, moved });
                }
            }
        }
        Ok(())
    }

    /// Whether a row belongs to this identity; a row that doesn't say so was grouped by the source.
    fn is_mine(&self, row: &Row, column: &str) -> bool {
        match (row.get(column), self.id) {
            (Some(Cell::Int(id)), rollcall_model::NativeId::Int(mine)) => id == mine,
            (Some(Cell::Text(id)), rollcall_model::NativeId::Text(mine)) => **id == **mine,
            (Some(_) | None, _) => true,
        }
    }

    fn finish(self) -> Result<Option<Change>, String> {
        match self.identity {
            Standing::Is(row, true) => {
                let mut traits = Traits::new();
                for (key, standing) in self.traits {
                    if let TraitRow::Is { row, .. } = standing {
                        let value = sent(read(&row)?)?;
                        traits.insert(key, value);
                    }
                }
                Ok(Some(Change::Upsert { image: image(&row, traits)? }))
            }
            Standing::Is(row, false) => patch(Some(&row), self.traits),
            Standing::Kept => patch(None, self.traits),
            Standing::Gone(_) => Ok(Some(Change::Delete)),
        }
    }
}

fn patch(identity: Option<&Row>, traits: BTreeMap<String, TraitRow>) -> Result<Option<Change>, String> {
    let mut patch = Patch::default();
    if let Some(row) = identity {
        patch.environment_id = Some(environment_id(row)?);
        patch.identifier = identifier(row)?;
        patch.system_traits = system_traits(row)?;
    }
    for (key, standing) in traits {
        match standing {
            TraitRow::Gone => {
                patch.unset.insert(key);
            }
            TraitRow::Is { row, moved } => match read(&row)? {
                Read::Value(value) => {
                    patch.set.insert(key, value);
                }
                Read::Unsent if moved => return Err(unsent()),
                Read::Unsent => {
                    patch.unchanged.insert(key);
                }
            },
        }
    }
    Ok((!patch.is_empty()).then_some(Change::Patch { patch }))
}

fn image(identity: &Row, traits: Traits) -> Result<Image, String> {
    Ok(Image {
        environment_id: environment_id(identity)?,
        identifier: identifier(identity)?.ok_or("its identifier was not sent, because it did not change")?,
        traits,
        system_traits: system_traits(identity)?
            .ok_or("its system_traits were not sent, because they did not change")?,
    })
}

fn environment_id(row: &Row) -> Result<EnvironmentId, String> {
    cells::int(row, "environment_id")
        .map(EnvironmentId::from)
        .ok_or_else(|| format!("{IDENTITY}.environment_id holds no integer"))
}

/// `None` when it was not sent.
fn identifier(row: &Row) -> Result<Option<String>, String> {
    match row.get("identifier") {
        Some(Cell::Text(text)) => Ok(Some(text.clone())),
        Some(Cell::Unchanged) => Ok(None),
        Some(_) | None => Err(format!("{IDENTITY}.identifier holds no text")),
    }
}

/// `None` when they were not sent; empty where the platform's version has none.
fn system_traits(row: &Row) -> Result<Option<Traits>, String> {
    let text = match row.get("system_traits") {
        Some(Cell::Json(text) | Cell::Text(text)) => text,
        Some(Cell::Unchanged) => return Ok(None),
        None | Some(Cell::Null) => return Ok(Some(Traits::new())),
        Some(_) => return Err(format!("{IDENTITY}.system_traits holds no JSON")),
    };
    let entries: Option<BTreeMap<String, &RawValue>> =
        serde_json::from_str(text).map_err(|_| format!("{IDENTITY}.system_traits holds no JSON object"))?;
    let traits = entries.unwrap_or_default().into_iter().map(|(key, raw)| Ok((key, json_value(raw.get())?)));
    traits.collect::<Result<_, String>>().map(Some)
}

fn json_value(json: &str) -> Result<Value, String> {
    let broken = || format!("{IDENTITY}.system_traits holds a value that is no text, number or truth value");
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map(Value::Str).map_err(|_| broken()),
        Some(b'n') => Ok(Value::Null),
        Some(b't') => Ok(Value::Bool(true)),
        Some(b'f') => Ok(Value::Bool(false)),
        Some(b'-' | b'0'..=b'9') => match json.parse::<BigInt>() {
            Ok(number) => Ok(Value::int(number)),
            Err(_) => json.parse().map(Value::Float).map_err(|_| broken()),
        },
        Some(_) | None => Err(broken()),
    }
}

fn trait_key(row: &Row) -> Result<String, String> {
    cells::text(row, "trait_key").map(str::to_owned).ok_or_else(|| {
        format!("a row of {TRAIT} came without its trait_key, so it is not known which trait it is; {REPLICA_IDENTITY}")
    })
}

fn read(row: &Row) -> Result<Read, String> {
    let column = match row.get("value_type") {
        Some(Cell::Text(value_type)) => match value_type.as_str() {
            "int" => "integer_value",
            "unicode" => "string_value",
            "bool" => "boolean_value",
            "float" => "float_value",
            _ => return Ok(Read::Value(Value::Null)),
        },
        Some(Cell::Null) => return Ok(Read::Value(Value::Null)),
        Some(_) | None => return Err(format!("{TRAIT}.value_type holds no text")),
    };
    match (column, row.get(column)) {
        (_, Some(Cell::Null)) => Ok(Read::Value(Value::Null)),
        ("integer_value", Some(Cell::Int(number))) => Ok(Read::Value(Value::Int(*number))),
        ("string_value", Some(Cell::Text(text))) => Ok(Read::Value(Value::Str(text.clone()))),
        ("string_value", Some(Cell::Unchanged)) => Ok(Read::Unsent),
        ("boolean_value", Some(Cell::Bool(value))) => Ok(Read::Value(Value::Bool(*value))),
        ("float_value", Some(Cell::Float(number))) => Ok(Read::Value(Value::Float(*number))),
        _ => {
            Err(format!("{TRAIT}.{column} is missing or of another type than the platform's schema gives it"))
        }
    }
}

fn sent(read: Read) -> Result<Value, String> {
    match read {
        Read::Value(value) => Ok(value),
        Read::Unsent => Err(unsent()),
    }
}

fn unsent() -> String {
    format!(
        "a trait came to this identity or key without its text, which did not change and was not sent; \
         {REPLICA_IDENTITY}"
    )
}
