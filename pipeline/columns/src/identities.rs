//! Images and tombstones as rows of [`IDENTITIES`].

use std::sync::Arc;

use arrow_array::builder::{
    StringBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use rollcall_model::{Fault, IdentityRecord, IdentityState};

use crate::schema::IDENTITIES;
use crate::traits::{TraitTexts, trait_texts};

/// A batch with the rows of `records`, in order.
///
/// An identity whose environment is not known yet has no row: no reader could ask for it, and it is written again when
/// the environment comes. An identity that left an environment has a deleted row there, with the same version, which
/// is above every version that it had there.
///
/// # Errors
/// A [`Fault`] of kind `Bug`; no record can cause one.
pub fn identities_batch<'a>(
    records: impl IntoIterator<Item = &'a IdentityRecord>,
) -> Result<RecordBatch, Fault> {
    let mut rows = Rows::default();
    for record in records {
        rows.push_record(record)?;
    }
    rows.finish()
}

/// Columns while they are filled.
#[derive(Default)]
pub(crate) struct Rows {
    environment_id: StringBuilder,
    id: StringBuilder,
    identifier: StringBuilder,
    identity_key: StringBuilder,
    traits: StringBuilder,
    traits_tagged: StringBuilder,
    system_traits: StringBuilder,
    inserted_at: TimestampMicrosecondBuilder,
    is_deleted: UInt8Builder,
    source: StringBuilder,
    partition: UInt16Builder,
    seq: UInt64Builder,
    log_id: StringBuilder,
}

/// What only a living identity has.
pub(crate) struct Live<'a> {
    identifier: &'a str,
    texts: TraitTexts,
}

impl<'a> Live<'a> {
    /// What it has; `None` when it is gone, or was never whole.
    pub(crate) fn of(record: &'a IdentityRecord) -> Result<Option<Self>, Fault> {
        match (&record.state, record.deleted) {
            (IdentityState::Live(image), false) => {
                let texts =
                    trait_texts(image).map_err(|e| Fault::bug("traits don't serialise").from_source(e))?;
                Ok(Some(Self { identifier: &image.identifier, texts }))
            }
            (IdentityState::Live(_) | IdentityState::Deleted | IdentityState::Pending { .. }, _) => Ok(None),
        }
    }
}

impl Rows {
    fn push_record(&mut self, record: &IdentityRecord) -> Result<(), Fault> {
        if let Some(environment_key) = &record.environment_key {
            let live = Live::of(record)?;
            self.push(record, environment_key, live);
        }
        for left in &record.left_environment_keys {
            // Back in an environment it once left: its row there is the one above.
            if record.environment_key.as_ref() != Some(left) {
                self.push(record, left, None);
            }
        }
        Ok(())
    }

    /// Adds a row, deleted where there is nothing living.
    pub(crate) fn push(&mut self, record: &IdentityRecord, environment_key: &str, live: Option<Live<'_>>) {
        self.environment_id.append_value(environment_key);
        self.id.append_value(record.id.to_string());
        self.is_deleted.append_value(u8::from(live.is_none()));
        match live {
            Some(Live { identifier, texts }) => {
                self.identifier.append_value(identifier);
                self.identity_key.append_value(record.identity_key.as_deref().unwrap_or_default());
                self.traits.append_value(texts.traits);
                self.traits_tagged.append_value(texts.tagged);
                self.system_traits.append_value(texts.system);
            }
            None => {
                self.identifier.append_value("");
                self.identity_key.append_value("");
                self.traits.append_value("{}");
                self.traits_tagged.append_value("");
                self.system_traits.append_value("");
            }
        }
        self.inserted_at.append_value(record.version.0);
        self.source.append_value(record.source.as_str());
        self.partition.append_value(record.partition.0);
        self.seq.append_value(record.seq.0);
        self.log_id.append_value(&record.log_id.0);
    }

    fn finish(self) -> Result<RecordBatch, Fault> {
        RecordBatch::try_new(IDENTITIES.arrow(), self.columns())
            .map_err(|e| Fault::bug("identity rows don't fit their Arrow schema").from_source(e))
    }

    /// The columns of [`IDENTITIES`].
    pub(crate) fn columns(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.environment_id.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.identifier.finish()),
            Arc::new(self.identity_key.finish()),
            Arc::new(self.traits.finish()),
            Arc::new(self.traits_tagged.finish()),
            Arc::new(self.system_traits.finish()),
            Arc::new(self.inserted_at.finish().with_timezone("UTC")),
            Arc::new(self.is_deleted.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.log_id.finish()),
        ]
    }
}
