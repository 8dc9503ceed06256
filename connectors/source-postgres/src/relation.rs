//! What the stream announces of a table, joined with what the platform wants of it, in; rows by name out.

use std::collections::HashMap;
use std::sync::Arc;

use rollcall_model::{Cell, Fault, Row, RowChange, RowOp, SourceName, TableRole, TableSpec};

use crate::cell::{Kind, int};
use crate::decode::{ColumnMessage, Field, Old, RelationMessage, Tuple};

/// A column as rows bring it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Column {
    kind: Kind,
    /// Whether the platform reads it.
    wanted: bool,
    /// Whether it belongs to the replica identity.
    key: bool,
}

/// A table that is read, in the shape it has now. A changed shape is a new one, so that rows keep theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    pub(crate) role: TableRole,
    columns: Vec<Column>,
    /// Names of the wanted columns.
    names: Arc<[Arc<str>]>,
    /// Names of the wanted columns that belong to the replica identity.
    key_names: Arc<[Arc<str>]>,
    /// Where the native id stands; `None` for a catalog table.
    id_column: Option<usize>,
}

/// Which columns a replica identity must hold for a role.
pub(crate) fn identity_columns(role: &TableRole) -> Vec<&'static str> {
    match role {
        TableRole::Catalog { key } | TableRole::Identity { key } => vec![key],
        TableRole::IdentityPart { identity, key } => key.iter().copied().chain([*identity]).collect(),
    }
}

/// The column with the native id.
pub(crate) fn id_column(role: &TableRole) -> Option<&'static str> {
    match role {
        TableRole::Catalog { .. } => None,
        TableRole::Identity { key } => Some(key),
        TableRole::IdentityPart { identity, .. } => Some(identity),
    }
}

/// Whether an id of this type sorts in Postgres as it does here.
pub(crate) fn is_integer(type_oid: u32) -> bool {
    Kind::of(type_oid) == Kind::Int
}

impl Table {
    /// Joins what came with what is wanted.
    ///
    /// # Errors
    /// `Refused`, where a needed column or the replica identity is missing.
    pub(crate) fn new(
        spec: &TableSpec,
        (source, schema): (&SourceName, &str),
        columns: &[ColumnMessage],
    ) -> Result<Self, Fault> {
        let find = |name: &str| columns.iter().position(|column| column.name == name);
        for name in spec.columns {
            if find(name).is_none() {
                return Err(Fault::refused(format!("table {schema}.{} has no column {name} (any more)", spec.name))
                    .repair(format!("bring the column back, or run a Rollcall that knows this version of the platform; then: rollcall backfill {source}")));
            }
        }
        for name in identity_columns(&spec.role) {
            if !find(name).is_some_and(|column| columns[column].key) {
                return Err(Fault::refused(format!(
                    "the replica identity of table {schema}.{} does not hold the column {name}",
                    spec.name
                ))
                .repair(format!(
                    "rollcall setup {source}; or: ALTER TABLE \"{schema}\".\"{}\" REPLICA IDENTITY FULL; then: rollcall backfill {source}",
                    spec.name
                )));
            }
        }
        let id_column = id_column(&spec.role).and_then(find);
        if id_column.is_some_and(|column| !is_integer(columns[column].type_oid)) {
            return Err(Fault::refused(format!("the id in table {schema}.{} is no integer", spec.name)));
        }
        let mut this = Self {
            name: Arc::from(spec.name),
            role: spec.role.clone(),
            columns: Vec::new(),
            names: Arc::new([]),
            key_names: Arc::new([]),
            id_column,
        };
        let (mut names, mut key_names) = (Vec::new(), Vec::new());
        for column in columns {
            let name = column.name.as_str();
            let wanted = spec.columns.contains(&name) || spec.optional.contains(&name);
            if wanted {
                let name: Arc<str> = Arc::from(name);
                names.push(Arc::clone(&name));
                if column.key {
                    key_names.push(name);
                }
            }
            this.columns.push(Column { kind: Kind::of(column.type_oid), wanted, key: column.key });
        }
        (this.names, this.key_names) = (names.into(), key_names.into());
        Ok(this)
    }

    /// The native id in a tuple; `None` where it is NULL, unchanged or unreadable.
    pub(crate) fn id(&self, tuple: &Tuple<'_>) -> Option<i64> {
        match tuple.field(self.id_column?)? {
            Field::Text(text) => int(text),
            Field::Null | Field::Unchanged => None,
        }
    }

    /// A row as it is now.
    pub(crate) fn row(&self, tuple: &Tuple<'_>) -> Row {
        self.row_over(tuple, None)
    }

    /// A row as it is now; what did not change is taken from `old` where that is whole.
    fn row_over(&self, tuple: &Tuple<'_>, old: Option<&Tuple<'_>>) -> Row {
        let mut cells = Vec::with_capacity(self.names.len());
        for (index, (column, field)) in self.columns.iter().zip(tuple.fields()).enumerate() {
            if !column.wanted {
                continue;
            }
            let field = match (field, old) {
                (Field::Unchanged, Some(old)) => old.field(index).unwrap_or(Field::Unchanged),
                (field, _) => field,
            };
            cells.push(cell(column, field));
        }
        Row { columns: Arc::clone(&self.names), cells }
    }

    /// A row as it was, as far as it came.
    pub(crate) fn old_row(&self, old: Old, tuple: &Tuple<'_>) -> Row {
        if old == Old::Full {
            return self.row(tuple);
        }
        let columns = self.columns.iter().zip(tuple.fields());
        let cells =
            columns.filter(|(column, _)| column.wanted && column.key).map(|(c, f)| cell(c, f)).collect();
        Row { columns: Arc::clone(&self.key_names), cells }
    }

    /// An UPDATE that stays with its identity.
    pub(crate) fn update(&self, old: Option<(Old, Tuple<'_>)>, new: &Tuple<'_>) -> RowChange {
        self.change(RowOp::Update {
            old: old.map(|(kind, tuple)| self.old_row(kind, &tuple)),
            new: self.moved_row(old, new),
        })
    }

    /// The new row of an UPDATE, whole where the old one came whole.
    pub(crate) fn moved_row(&self, old: Option<(Old, Tuple<'_>)>, new: &Tuple<'_>) -> Row {
        let full = old.and_then(|(kind, tuple)| (kind == Old::Full).then_some(tuple));
        self.row_over(new, full.as_ref())
    }

    /// A change of this table.
    pub(crate) fn change(&self, op: RowOp) -> RowChange {
        RowChange { table: Arc::clone(&self.name), op }
    }

    /// How many columns its tuples have.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }
}

fn cell(column: &Column, field: Field<'_>) -> Cell {
    match field {
        Field::Null => Cell::Null,
        Field::Unchanged => Cell::Unchanged,
        Field::Text(bytes) => column.kind.cell(bytes),
    }
}

/// The tables that the stream has announced, by oid. The stream announces a table before its first row of a
/// connection, and again when it has changed.
#[derive(Debug)]
pub(crate) struct Relations {
    source: SourceName,
    schema: String,
    specs: Vec<TableSpec>,
    known: HashMap<u32, Option<Arc<Table>>>,
}

impl Relations {
    pub(crate) fn new(source: &SourceName, schema: &str, specs: &[TableSpec]) -> Self {
        Self {
            source: source.clone(),
            schema: schema.to_owned(),
            specs: specs.to_vec(),
            known: HashMap::new(),
        }
    }

    /// Takes a `Relation` message.
    ///
    /// # Errors
    /// `Refused`, where the table no longer has what the platform reads.
    pub(crate) fn announce(&mut self, relation: &RelationMessage) -> Result<(), Fault> {
        let spec =
            self.specs.iter().find(|spec| relation.schema == self.schema && relation.name == spec.name);
        let table =
            spec.map(|spec| Table::new(spec, (&self.source, &self.schema), &relation.columns)).transpose()?;
        let entry = self.known.entry(relation.oid).or_default();
        if entry.as_deref() != table.as_ref() {
            *entry = table.map(Arc::new);
        }
        Ok(())
    }

    /// The table of a row; `None` when nobody reads it.
    ///
    /// # Errors
    /// `Retry`, where the stream never announced it.
    pub(crate) fn table(&self, oid: u32) -> Result<Option<&Arc<Table>>, Fault> {
        self.known
            .get(&oid)
            .map(Option::as_ref)
            .ok_or_else(|| Fault::retry("the stream brought a row of a table that it had not announced"))
    }
}
