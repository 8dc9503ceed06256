//! Records on their way into one commit, in the order of PROTOCOL.md §3: catalog first, then control records, then
//! changes by identity.

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{ChangeRecord, Fault, Input, Partition, QuarantineRecord, Record, SourceName, Topic};

/// What one source says, until it is committed.
#[derive(Debug)]
pub(crate) struct Outgoing {
    source: SourceName,
    partitions: u16,
    records: Vec<Record>,
}

impl Outgoing {
    pub(crate) fn new(source: SourceName, partitions: u16) -> Self {
        Self { source, partitions, records: Vec::new() }
    }

    pub(crate) fn source(&self) -> &SourceName {
        &self.source
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn drain(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// A change in the partition of its identity; `lane` says where it came by.
    pub(crate) fn change(&mut self, change: ChangeRecord, lane: String) -> Result<(), Fault> {
        let key = change.key();
        let headers = vec![("lane".to_owned(), lane), ("position".to_owned(), change.position.clone())];
        self.records.push(Record {
            topic: Topic::IdentityChanges,
            partition: key.partition(self.partitions),
            key: key.to_string().into_bytes(),
            value: Some(serde_json::to_vec(&Input::Change(change)).map_err(not_json)?),
            headers,
        });
        Ok(())
    }

    /// Something of this source that can't be read and belongs to no identity; `name` tells those of one source apart.
    pub(crate) fn quarantine(
        &mut self,
        name: &str,
        reason: String,
        raw: String,
        position: String,
    ) -> Result<(), Fault> {
        let record = QuarantineRecord {
            key: None,
            reason,
            origin: format!("source-{}", self.source),
            payload: serde_json::Value::String(raw),
            place: None,
            position,
            parks: false,
        };
        metrics::counter!("rollcall_quarantined_total", "origin" => "source").increment(1);
        let name = format!("catalog/{}/{name}", record.origin);
        let value = serde_json::to_vec(&record).map_err(not_json)?;
        self.shared(Topic::Quarantine, name, Some(value));
        Ok(())
    }

    /// A record of a topic that isn't partitioned by identity.
    pub(crate) fn shared(&mut self, topic: Topic, key: String, value: Option<Vec<u8>>) {
        let record =
            Record { topic, partition: Partition(0), key: key.into_bytes(), value, headers: Vec::new() };
        self.records.push(record);
    }

    /// A control record in every partition, before what follows it.
    pub(crate) fn control(&mut self, input: &Input) -> Result<(), Fault> {
        (0..self.partitions).map(Partition).try_for_each(|partition| self.control_in(partition, input))
    }

    /// A control record in one partition.
    pub(crate) fn control_in(&mut self, partition: Partition, input: &Input) -> Result<(), Fault> {
        self.records.push(Record {
            topic: Topic::IdentityChanges,
            partition,
            key: CONTROL_KEY.as_bytes().to_vec(),
            value: Some(serde_json::to_vec(input).map_err(not_json)?),
            headers: Vec::new(),
        });
        Ok(())
    }
}

/// A record that can't be written as JSON.
pub(crate) fn not_json(e: serde_json::Error) -> Fault {
    Fault::bug("a record can't be written as JSON").from_source(e)
}
