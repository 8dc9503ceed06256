//! Records as rows of one table: an Arrow stream in, rows acknowledged out.
//!
//! An insert counts as done when the server said so and when, counted again, it holds as many keys of these commits as
//! were sent: a server that answers "done" and keeps less (a lost part, a proxy that cut the body) is found out at
//! once. Rows of a newer commit in the same partition mean that this is a replay; then newer versions may have taken
//! the place of these and there is nothing to count.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt16Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use clickhouse::Row;
use rollcall_model::Fault;
use serde::Deserialize;

use crate::tables::Table;
use crate::wire::{InsertError, Wire};

/// How often the rows are counted again before the insert is called incomplete: another replica may be behind.
const COUNTS_MAX: u32 = 5;
const COUNT_PAUSE_MS: u64 = 200;

/// Inserts batches of one schema into a table. Returns the rows acknowledged.
pub(crate) async fn insert(
    wire: &Wire,
    database: &str,
    table: &Table,
    batches: &[RecordBatch],
) -> Result<u64, InsertError> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows == 0 {
        return Ok(0);
    }
    let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let sql = format!("INSERT INTO {database}.{} ({}) FORMAT ArrowStream", table.name, columns.join(", "));
    wire.insert(&sql, ArrowStream::new(&columns, batches)?).await?;
    confirm(wire, database, table, &Sent::of(table, batches)?).await?;
    Ok(rows as u64)
}

/// The bytes of an Arrow stream, batch by batch, with the columns under the table's names.
struct ArrowStream<'a> {
    batches: std::slice::Iter<'a, RecordBatch>,
    schema: SchemaRef,
    writer: Option<StreamWriter<Vec<u8>>>,
}

impl<'a> ArrowStream<'a> {
    fn new(columns: &[&str], batches: &'a [RecordBatch]) -> Result<Self, Fault> {
        let own = batches.first().map(RecordBatch::schema).unwrap_or_else(|| Arc::new(Schema::empty()));
        let fields: Vec<_> =
            columns.iter().zip(own.fields()).map(|(name, f)| f.as_ref().clone().with_name(*name)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(not_arrow)?;
        Ok(Self { batches: batches.iter(), schema, writer: Some(writer) })
    }

    fn encode(&self, writer: &mut StreamWriter<Vec<u8>>, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?)?;
        Ok(std::mem::take(writer.get_mut()))
    }
}

fn not_arrow(error: ArrowError) -> Fault {
    Fault::bug("rows don't make an Arrow stream").from_source(error)
}

impl Iterator for ArrowStream<'_> {
    type Item = Result<Vec<u8>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut writer = self.writer.take()?;
        match self.batches.next() {
            Some(batch) => {
                let bytes = self.encode(&mut writer, batch).map_err(not_arrow);
                self.writer = Some(writer);
                Some(bytes)
            }
            None => Some(writer.into_inner().map_err(not_arrow)),
        }
    }
}

/// The commits of one partition in a batch, and how many different keys they wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Commits {
    first: u64,
    last: u64,
    keys: u64,
}

/// What was sent, per partition.
struct Sent(BTreeMap<u16, Commits>);

impl Sent {
    fn of(table: &Table, batches: &[RecordBatch]) -> Result<Self, Fault> {
        let mut keys: BTreeMap<u16, HashSet<Vec<&str>>> = BTreeMap::new();
        let mut sent: BTreeMap<u16, Commits> = BTreeMap::new();
        for batch in batches {
            let column = |name: &str| -> Result<&dyn Array, Fault> {
                let column = batch.column_by_name(name);
                Ok(column.ok_or_else(|| Fault::bug(format!("rows have no column {name}")))?)
            };
            let partitions = column("partition")?.as_primitive::<UInt16Type>();
            let seqs = column("seq")?.as_primitive::<UInt64Type>();
            let key: Vec<_> = table
                .key
                .iter()
                .map(|name| Ok(column(name)?.as_string::<i32>()))
                .collect::<Result<_, Fault>>()?;
            for row in 0..batch.num_rows() {
                let (partition, seq) = (partitions.value(row), seqs.value(row));
                let commits = sent.entry(partition).or_insert(Commits { first: seq, last: seq, keys: 0 });
                commits.first = commits.first.min(seq);
                commits.last = commits.last.max(seq);
                let is_new =
                    keys.entry(partition).or_default().insert(key.iter().map(|c| c.value(row)).collect());
                commits.keys += u64::from(is_new);
            }
        }
        Ok(Self(sent))
    }
}

#[derive(Row, Deserialize, Debug)]
struct Held {
    partition: u16,
    keys: u64,
    newest: u64,
}

async fn confirm(wire: &Wire, database: &str, table: &Table, sent: &Sent) -> Result<(), Fault> {
    let mut missing = None;
    for attempt in 0..COUNTS_MAX {
        let held = count(wire, database, table, sent).await?;
        missing = sent.0.iter().find_map(|(partition, commits)| {
            let found = held.iter().find(|h| h.partition == *partition);
            let (keys, newest) = found.map_or((0, 0), |h| (h.keys, h.newest));
            (keys < commits.keys && newest <= commits.last).then_some((*partition, commits.keys, keys))
        });
        if missing.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(COUNT_PAUSE_MS * u64::from(attempt))).await;
    }
    match missing {
        None => Ok(()),
        Some((partition, keys, found)) => Err(Fault::retry(format!(
            "ClickHouse acknowledged {keys} keys of partition {partition} for {database}.{} and holds {found}",
            table.name
        ))),
    }
}

async fn count(wire: &Wire, database: &str, table: &Table, sent: &Sent) -> Result<Vec<Held>, Fault> {
    let partitions: Vec<u16> = sent.0.keys().copied().collect();
    let first: Vec<u64> = sent.0.values().map(|c| c.first).collect();
    let last: Vec<u64> = sent.0.values().map(|c| c.last).collect();
    let oldest = first.iter().copied().min().unwrap_or_default();
    let sql = format!(
        "WITH indexOf({{partitions:Array(UInt16)}}, partition) AS n \
         SELECT partition, uniqExactIf(({key}), seq <= {{last:Array(UInt64)}}[n]) AS keys, max(seq) AS newest \
         FROM {database}.{name} \
         WHERE seq >= {{oldest:UInt64}} AND n > 0 AND seq >= {{first:Array(UInt64)}}[n] \
         GROUP BY partition",
        key = table.key.join(", "),
        name = table.name,
    );
    let query = wire
        .query(&sql)
        .param("partitions", partitions)
        .param("first", first)
        .param("last", last)
        .param("oldest", oldest);
    wire.fetch("count what was inserted", query).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray, UInt16Array, UInt64Array};
    use rollcall_model::FaultKind;
    use rollcall_test_servers::ClickHouse;

    use super::*;
    use crate::config::ClickHouseSinkConfig;

    const TABLE: Table = Table { name: "t", key: &["id"], ddl: "", columns: &[] };

    fn rows(rows: &[(&str, u16, u64)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0)))),
            ("partition", Arc::new(UInt16Array::from_iter_values(rows.iter().map(|r| r.1)))),
            ("seq", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.2)))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    #[test]
    fn a_key_written_twice_is_one_key() {
        let sent = Sent::of(&TABLE, &[rows(&[("a", 0, 7), ("a", 0, 5)]), rows(&[("a", 0, 9), ("b", 3, 1)])]);
        let sent = sent.expect("all columns").0;
        assert_eq!(sent[&0], Commits { first: 5, last: 9, keys: 1 });
        assert_eq!(sent[&3], Commits { first: 1, last: 1, keys: 1 });
    }

    /// What a server acknowledged and doesn't hold is found out; what newer commits replaced is not missed.
    #[tokio::test]
    async fn rows_acknowledged_are_rows_held() {
        let server = ClickHouse::temporary();
        let wire = Wire::new(&ClickHouseSinkConfig::new("ch", server.url())).expect("a URL");
        for sql in [
            "CREATE TABLE t (id String, partition UInt16, seq UInt64) ENGINE = ReplacingMergeTree(seq) ORDER BY id",
            "INSERT INTO t VALUES ('a', 0, 5), ('b', 0, 6), ('c', 1, 3)",
        ] {
            wire.execute("prepare", wire.query(sql)).await.expect("runs");
        }
        let check = async |sent: &[(&str, u16, u64)]| {
            let sent = Sent::of(&TABLE, &[rows(sent)]).expect("all columns");
            confirm(&wire, "default", &TABLE, &sent).await
        };
        check(&[("a", 0, 5), ("b", 0, 6), ("c", 1, 3)]).await.expect("held");
        let fault =
            check(&[("a", 0, 5), ("b", 0, 6), ("lost", 0, 6), ("c", 1, 3)]).await.expect_err("one is lost");
        assert_eq!(fault.kind, FaultKind::Retry);
        assert!(fault.to_string().contains("acknowledged 3 keys of partition 0"), "{fault}");
        check(&[("a", 0, 1), ("b", 0, 2)]).await.expect("a replay: newer commits took their place");
        check(&[("d", 2, 1)]).await.expect_err("nothing of this partition is held");
    }
}
