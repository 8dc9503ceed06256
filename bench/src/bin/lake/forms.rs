//! Traits as one column, in three forms: what they take, and how fast they are written and one key is read.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet_variant::{Variant, VariantBuilderExt};
use parquet_variant_compute::{VariantArray, VariantArrayBuilder};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rollcall_columns::trait_texts;
use rollcall_model::{Image, Traits, Value};
use serde::Deserialize;

use crate::Outcome;
use crate::meter::Meter;
use crate::rows::{BATCH, many_traits, usual_traits};
use crate::server::Server;

const TURNS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the tables have it.
    Json,
    /// Values as text: their types are gone.
    Map,
    /// Typed values, keys in a dictionary per row.
    Variant,
}

const FORMS: [(&str, Form); 3] =
    [("json text", Form::Json), ("map<utf8, utf8>", Form::Map), ("variant", Form::Variant)];

pub(crate) async fn run(rows: i64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&folder.path().join("engine")).await?;
    for (kind, traits) in
        [("6 traits", usual_traits as fn(&mut StdRng) -> Traits), ("26 traits", many_traits)]
    {
        let mut random = StdRng::seed_from_u64(2);
        let images: Vec<Image> = (0..rows)
            .map(|n| Image {
                environment_id: "1".into(),
                identifier: n.to_string(),
                traits: traits(&mut random),
                system_traits: Traits::new(),
            })
            .collect();
        for _ in 0..TURNS {
            let mut pro = None;
            for (name, form) in FORMS {
                let path = folder.path().join("traits.parquet");
                let found =
                    measure(&server, &format!("traits as {name}, {kind}"), form, &images, &path).await?;
                assert_eq!(*pro.get_or_insert(found), found, "every form says who is pro");
            }
        }
    }
    Ok(())
}

async fn measure(server: &Server, name: &str, form: Form, images: &[Image], path: &PathBuf) -> Outcome<u64> {
    let rows = images.len() as u64;
    let meter = Meter::start()?;
    write(form, images, path)?;
    let bytes = std::fs::metadata(path)?.len();
    let more = [("bytes_per_row", bytes as f64 / rows as f64)];
    meter.spent()?.print(&format!("{name}: write"), rows, bytes, &more);

    let meter = Meter::start()?;
    let found = read(form, path)?;
    meter.spent()?.print(&format!("{name}: read one key"), rows, bytes, &[]);

    let one = match form {
        Form::Json => "JSONExtractString(traits, 'plan')",
        Form::Map => "traits['plan']",
        // ClickHouse 26.7 has no way into one: it sees a tuple of its parts, in annotated files too.
        Form::Variant => return Ok(found),
    };
    let sql = format!("SELECT countIf({one} = 'pro') AS number FROM file('{}', Parquet)", path.display());
    let meter = Meter::with(server.engine.pid())?;
    let answer = server.number(&sql).await?;
    meter.spent()?.print(&format!("{name}: the engine reads one key"), rows, bytes, &[]);
    assert_eq!(answer, found);
    Ok(found)
}

fn write(form: Form, images: &[Image], path: &Path) -> Outcome<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        // Texts and values of whole rows hardly repeat; keys and values of a map do.
        .set_dictionary_enabled(form == Form::Map)
        .set_column_dictionary_enabled("traits.metadata".into(), form == Form::Variant)
        .set_max_row_group_row_count(Some(100_000))
        .build();
    let mut writer: Option<ArrowWriter<File>> = None;
    for images in images.chunks(BATCH as usize) {
        let column = column(form, images)?;
        let batch = RecordBatch::try_from_iter([("traits", column)])?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let new =
                    ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties.clone()))?;
                none.insert(new)
            }
        };
        writer.write(&batch)?;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}

fn column(form: Form, images: &[Image]) -> Outcome<ArrayRef> {
    Ok(match form {
        Form::Json => {
            let mut column = StringBuilder::new();
            for image in images {
                column.append_value(trait_texts(image)?.traits);
            }
            Arc::new(column.finish())
        }
        Form::Map => {
            let mut column = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
            for image in images {
                for (key, value) in &image.traits {
                    column.keys().append_value(key);
                    column.values().append_value(value_text(value));
                }
                column.append(true)?;
            }
            Arc::new(column.finish())
        }
        Form::Variant => {
            let mut column = VariantArrayBuilder::new(images.len());
            for image in images {
                let mut object = column.new_object();
                for (key, value) in &image.traits {
                    match value {
                        Value::Null => object.insert(key, Variant::Null),
                        Value::Bool(b) => object.insert(key, *b),
                        Value::Int(n) => object.insert(key, *n),
                        Value::Float(x) => object.insert(key, *x),
                        Value::Str(text) => object.insert(key, text.as_str()),
                        Value::BigInt(n) => object.insert(key, n.to_string().as_str()),
                    }
                }
                object.finish();
            }
            Arc::new(column.build().into_inner())
        }
    })
}

fn value_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "".into(),
        Value::Bool(b) => if *b { "true" } else { "false" }.into(),
        Value::Int(n) => n.to_string().into(),
        Value::Float(x) => format!("{x:?}").into(),
        Value::Str(text) => text.into(),
        Value::BigInt(n) => n.to_string().into(),
    }
}

/// How many rows have plan = pro.
fn read(form: Form, path: &Path) -> Outcome<u64> {
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(borrow)]
        plan: Option<Cow<'a, str>>,
    }
    let mut found = 0;
    for batch in
        ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(4_096).build()?
    {
        let batch = batch?;
        let column = batch.column(0);
        match form {
            Form::Json => {
                for text in column.as_string::<i32>().iter().flatten() {
                    found += u64::from(serde_json::from_str::<One<'_>>(text)?.plan.as_deref() == Some("pro"));
                }
            }
            Form::Map => {
                let map = column.as_map();
                let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
                for row in map.offsets().windows(2) {
                    let entry = (row[0] as usize..row[1] as usize).find(|entry| keys.value(*entry) == "plan");
                    found += u64::from(entry.is_some_and(|entry| values.value(entry) == "pro"));
                }
            }
            Form::Variant => {
                let column = VariantArray::try_new(column)?;
                for row in 0..column.len() {
                    let value = column.value(row);
                    let plan = value.as_object().and_then(|object| object.get("plan"));
                    found += u64::from(plan.as_ref().and_then(|plan| plan.as_string()) == Some("pro"));
                }
            }
        }
    }
    Ok(found)
}
