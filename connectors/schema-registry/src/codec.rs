//! JSON ⇄ the wire format of Confluent's serialisers.
//!
//! ```text
//! byte  0         1 2 3 4              5 …
//!       magic 0   schema id, big endian   Avro binary
//! ```

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, PoisonError, RwLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use rollcall_model::{Fault, Topic};
use serde_json::value::RawValue;

use crate::avro_to_json::to_json;
use crate::config::RegistryConfig;
use crate::forms::{Form, USES, Use, forms, use_of};
use crate::json_to_avro::{Misfit, to_avro};
use crate::registry::Registry;
use crate::shape::Shape;

/// So many schemas of others are remembered: one per topic and version of Rollcall that wrote to it. Beyond it all are
/// forgotten, and asked for again.
pub const SCHEMAS_LEARNED_MAX: usize = 256;

const MAGIC: u8 = 0;
const HEADER_BYTES: usize = 5;

/// Turns JSON into Avro and back, for the public topics of one log.
pub struct AvroCodec {
    registry: Registry,
    /// Our own schemas.
    own: HashMap<Use, Own>,
    /// What others wrote with, by id.
    learned: RwLock<HashMap<u32, Arc<Schema>>>,
}

/// A schema of ours under the id that it has in this registry, with what is made of it once and not for each record.
struct Own {
    id: u32,
    form: &'static Form,
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

impl Own {
    fn new(id: u32, form: &'static Form) -> Result<Self, Fault> {
        let unusable = |e| Fault::bug(format!("{} can't be used", form.file)).from_source(e);
        // Values are made along the schema: validating them again would cost as much as writing them.
        let writer = GenericDatumWriter::builder(&form.schema).validate(false).build().map_err(unusable)?;
        let reader = GenericDatumReader::builder(&form.schema).build().map_err(unusable)?;
        Ok(Self { id, form, writer, reader })
    }
}

impl AvroCodec {
    /// Registers every schema under the subjects of `prefix`, or finds that it is registered.
    ///
    /// # Errors
    /// `Retry`: the registry can't be reached or has a fault of its own. `Config`: it is no registry, or takes no such
    /// user. `Refused`: a subject holds schemas that ours isn't compatible with.
    pub async fn connect(config: RegistryConfig, prefix: &str) -> Result<Self, Fault> {
        let (registry, forms) = (Registry::new(&config)?, forms()?);
        let mut own = HashMap::with_capacity(USES.len());
        for of in USES {
            let form = forms.get(of.form).ok_or_else(|| Fault::bug("a schema is not in the program"))?;
            own.insert(*of, Own::new(registry.id(&of.subject(prefix), form.text).await?, form)?);
        }
        Ok(Self { registry, own, learned: RwLock::default() })
    }

    /// A record's JSON as it goes to the broker: Avro, or as it is where the topic or the control record stays JSON.
    ///
    /// # Errors
    /// `Bug`: the record isn't what its schema says.
    pub fn encode(&self, topic: Topic, key: &[u8], json: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let Some(of) = use_of(topic, key) else { return Ok(json) };
        let own = self.own(of)?;
        let misfit = |why: Misfit| {
            Fault::bug(format!("a record of {} is not what {} says", topic.name(), own.form.file))
                .from_source(why)
                .repair("report it; until then, take log.schema_registry out of the topology")
        };
        let raw: &RawValue = serde_json::from_slice(&json).map_err(|_| misfit(Misfit::new("is no JSON")))?;
        let value = to_avro(&own.form.shape, raw).map_err(misfit)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len());
        bytes.push(MAGIC);
        bytes.extend_from_slice(&own.id.to_be_bytes());
        own.writer
            .write_value_ref(&mut bytes, &value)
            .map_err(|_| misfit(Misfit::new("can't be encoded")))?;
        Ok(bytes)
    }

    /// What stands on the broker as the JSON that was written. What isn't Avro passes as it is, on every topic.
    ///
    /// # Errors
    /// `Refused`: it can't be read; going on without it would be a guess. `Bug`: its schema was not learned.
    pub fn decode(&self, topic: Topic, key: &[u8], bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
        if bytes.first() != Some(&MAGIC) {
            return Ok(bytes);
        }
        let refused = |what: &str| {
            Fault::refused(format!("a record of {} is no Avro that can be read: {what}", topic.name()))
                .repair("run the version of Rollcall that wrote it; or stop the foreign program that writes there")
        };
        let (Some(id), Some(body)) = (schema_id(&bytes), bytes.get(HEADER_BYTES..)) else {
            return Err(refused("it is shorter than the header"));
        };
        let Some(of) = use_of(topic, key) else {
            return Err(refused("no schema speaks of its topic and key"));
        };
        let own = self.own(of)?;
        let value = if own.id == id {
            read(&own.reader, body)
        } else {
            let writer = self.writer(id)?;
            GenericDatumReader::builder(&writer)
                .reader_schema(&own.form.schema)
                .build()
                .map_err(|_| "it can't be used")
                .and_then(|reader| read(&reader, body))
        };
        let value = value.map_err(|what| refused(&format!("schema {id}: {what}")))?;
        let mut json = Vec::with_capacity(bytes.len() * 2);
        to_json(&own.form.shape, &value, &mut json).map_err(|e| refused(&format!("schema {id}: {e}")))?;
        Ok(json)
    }

    /// The schema that has to be learned before these bytes can be decoded, if there is one.
    #[must_use]
    pub fn unknown_schema(&self, bytes: &[u8]) -> Option<u32> {
        let id = schema_id(bytes)?;
        let known = self.own.values().any(|own| own.id == id)
            || self.learned.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id);
        (!known).then_some(id)
    }

    /// Fetches a schema by its id and keeps it: what another version of Rollcall wrote is read with it.
    ///
    /// # Errors
    /// As [`AvroCodec::connect`]; `Refused` also where the registry knows no such schema, or it is none of ours.
    pub async fn learn(&self, id: u32) -> Result<(), Fault> {
        let text = self.registry.schema(id).await?;
        let foreign = |what: String| {
            Fault::refused(format!("schema {id}, with which a record was written, can't be used: {what}"))
                .repair("find the foreign program that writes to Rollcall's topics, and stop it")
        };
        let schema = Schema::parse_str(&text).map_err(|e| foreign(e.to_string()))?;
        // Ours are trees of a few types. One that holds itself would be read as deep as its bytes say.
        Shape::of(&schema).map_err(foreign)?;
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        if learned.len() >= SCHEMAS_LEARNED_MAX {
            learned.clear();
        }
        learned.insert(id, Arc::new(schema));
        Ok(())
    }

    fn own(&self, of: Use) -> Result<&Own, Fault> {
        self.own.get(&of).ok_or_else(|| Fault::bug("a schema was not registered at connect"))
    }

    /// A schema that isn't the record's own: learned, or of another topic of ours, which then can't be resolved.
    fn writer(&self, id: u32) -> Result<Arc<Schema>, Fault> {
        if let Some(schema) = self.learned.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(schema));
        }
        match self.own.values().find(|own| own.id == id) {
            Some(own) => Ok(Arc::new(own.form.schema.clone())),
            None => Err(Fault::bug(format!("schema {id} was not learned before its record was decoded"))),
        }
    }
}

impl std::fmt::Debug for AvroCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AvroCodec").field("registry", &self.registry).finish_non_exhaustive()
    }
}

fn schema_id(bytes: &[u8]) -> Option<u32> {
    let (MAGIC, rest) = bytes.split_first().map(|(magic, rest)| (*magic, rest))? else { return None };
    rest.first_chunk::<4>().map(|id| u32::from_be_bytes(*id))
}

/// Decodes the whole of `body`.
fn read(reader: &GenericDatumReader<'_>, body: &[u8]) -> Result<Value, &'static str> {
    let mut body = Exact { rest: body, short: false };
    // The decoder's own words may hold what stands in the record, which is none of a fault's business.
    let value = reader.read_value(&mut body).map_err(|_| "its bytes don't follow it")?;
    match body {
        Exact { short: true, .. } => Err("it breaks off"),
        Exact { rest: [], .. } => Ok(value),
        Exact { .. } => Err("it goes on behind its end"),
    }
}

/// Remembers whether more was asked for than is there: the decoder takes an end in the middle of a text or a union for
/// null.
struct Exact<'a> {
    rest: &'a [u8],
    short: bool,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.short |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}
