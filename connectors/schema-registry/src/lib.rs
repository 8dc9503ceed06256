//! Avro at the edge of a log: the public topics as the rest of a Kafka estate reads them.
//!
//! ```text
//! inside Rollcall                 this crate                                     on the broker
//! JSON of docs/topics.md ──encode──▶ form (topic, key) ─ json → Avro ──▶ 0 │ schema id │ Avro binary
//!                        ◀─decode──   ▲                ◀─ Avro → json ──
//!                                     │ ids, once, at connect; an unknown id by `learn`
//!                              schema registry (HTTP)
//! ```
//!
//! In: a record's topic, key and JSON. Out: the wire format of Confluent's serialisers, magic byte 0, four bytes of
//! schema id, Avro. Keys stay text, null values stay null, and the internal topics stay JSON.
//!
//! **Nothing is lost**, because the schemas of `schemas/avro` are read as a description of the JSON, field by field
//! (`shape.rs`): what has no type of its own in Avro stands as JSON text, and a field that the schema doesn't know
//! is a fault, never dropped. **Old records stay readable**: no JSON begins with the byte 0, so a topic may hold both,
//! and turning the setting on or off rewrites nothing.
//!
//! **Control records** of public topics (`control/check`, `control/watermark/…`) are Avro too: one JSON record among
//! Avro ones stops every stock consumer with "Unknown magic byte". They have schemas and subjects of their own
//! (`PREFIX.TOPIC-rollcall.CheckPassed`, the strategy TopicRecordNameStrategy), so that `PREFIX.TOPIC-value` is one plain
//! record and no union, which ClickHouse, Connect and most code generators would refuse.
//!
//! Encoding and decoding do no I/O. Schemas of other versions of Rollcall are fetched by id, once: see
//! [`AvroCodec::unknown_schema`] and [`AvroCodec::learn`].

mod avro_to_json;
mod codec;
mod config;
mod forms;
pub mod https;
mod json_to_avro;
mod registry;
mod shape;

pub use codec::{AvroCodec, SCHEMAS_LEARNED_MAX};
pub use config::{DEFAULT_TIMEOUT_MS, RegistryConfig};
