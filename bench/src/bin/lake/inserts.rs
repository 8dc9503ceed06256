//! The same batches to ClickHouse in several formats, each into an empty table of the same DDL.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt8Type, UInt16Type, UInt64Type};
use arrow_array::{Array, RecordBatch, UInt8Array, UInt16Array, UInt64Array};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Schema};
use clickhouse::Compression;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::Outcome;
use crate::meter::Meter;
use crate::rows::{Images, batches};
use crate::server::{COLUMNS, Server};

/// Each format has each place in a turn once.
const TURNS: usize = WAYS.len();
/// Batches of one insert: about 100,000 rows.
const BATCHES: usize = 12;

#[derive(Clone, Copy)]
enum Format {
    Arrow,
    /// Its own buffers in LZ4.
    ArrowLz4,
    RowBinary,
    Parquet,
    Json,
}

const WAYS: [(&str, &str, Format, bool); 8] = [
    ("ArrowStream", "ArrowStream", Format::Arrow, false),
    ("ArrowStream lz4", "ArrowStream", Format::Arrow, true),
    ("ArrowStream of lz4 buffers", "ArrowStream", Format::ArrowLz4, false),
    ("RowBinary", "RowBinary", Format::RowBinary, false),
    ("RowBinary lz4", "RowBinary", Format::RowBinary, true),
    ("Parquet zstd", "Parquet", Format::Parquet, false),
    ("JSONEachRow", "JSONEachRow", Format::Json, false),
    ("JSONEachRow lz4", "JSONEachRow", Format::Json, true),
];

pub(crate) async fn run(rows: i64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path()).await?;
    let records: Vec<_> = Images::new(rows).collect();
    let batches = renamed(&batches(&records)?)?;
    drop(records);
    let mut first_hash = None;
    for turn in 0..TURNS {
        // Another one begins each turn: the engine slows down with what it has behind it.
        for (name, format_name, format, lz4) in WAYS.into_iter().cycle().skip(turn).take(WAYS.len()) {
            server.run("TRUNCATE TABLE default.rival").await?;
            let compression = if lz4 { Compression::Lz4 } else { Compression::None };
            let client = server.client(compression);
            let sql = format!("INSERT INTO default.rival ({COLUMNS}) FORMAT {format_name}");
            let (mut bytes, mut encode_s) = (0, 0.0);
            let meter = Meter::with(server.engine.pid())?;
            for group in batches.chunks(BATCHES) {
                let encoding = std::time::Instant::now();
                let body = encode(format, group)?;
                encode_s += encoding.elapsed().as_secs_f64();
                bytes += body.len() as u64;
                let mut insert = client.insert_formatted_with(&sql);
                insert.send(body.into()).await?;
                insert.end().await?;
            }
            let more = [
                ("turn", turn as f64),
                ("encode_ms", encode_s * 1e3),
                ("body_bytes_per_row", bytes as f64 / rows as f64),
            ];
            meter.spent()?.print(&format!("insert: {name}"), rows as u64, bytes, &more);
            if turn == 0 {
                let hash = server.hash("default.rival").await?;
                assert_eq!(*first_hash.get_or_insert(hash), hash, "{name} ends in the same rows");
            }
        }
    }
    Ok(())
}

/// The columns that the sink sends, under the table's names.
fn renamed(batches: &[RecordBatch]) -> Outcome<Vec<RecordBatch>> {
    let names: Vec<&str> = COLUMNS.split(',').map(str::trim).collect();
    let rename = |batch: &RecordBatch| {
        let own = batch.schema();
        let fields: Vec<_> =
            own.fields().iter().zip(&names).map(|(f, name)| f.as_ref().clone().with_name(*name)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns()[..names.len()].to_vec())
    };
    Ok(batches.iter().map(rename).collect::<Result<_, _>>()?)
}

fn encode(format: Format, batches: &[RecordBatch]) -> Outcome<Vec<u8>> {
    let schema = batches[0].schema();
    match format {
        Format::Arrow => arrow(batches, IpcWriteOptions::default()),
        Format::ArrowLz4 => {
            let options =
                IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
            arrow(batches, options)
        }
        Format::RowBinary => row_binary(batches),
        Format::Parquet => {
            let properties =
                WriterProperties::builder().set_compression(Codec::ZSTD(ZstdLevel::try_new(1)?)).build();
            let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
            for batch in batches {
                writer.write(batch)?;
            }
            Ok(writer.into_inner()?)
        }
        Format::Json => json(batches),
    }
}

fn arrow(batches: &[RecordBatch], options: IpcWriteOptions) -> Outcome<Vec<u8>> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// A column, told apart once per batch and not once per row.
enum Typed<'a> {
    Text(&'a arrow_array::StringArray),
    Micros(&'a arrow_array::TimestampMicrosecondArray),
    U8(&'a UInt8Array),
    U16(&'a UInt16Array),
    U64(&'a UInt64Array),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Arrow has forty types, the table five")]
fn typed(batch: &RecordBatch) -> Outcome<Vec<Typed<'_>>> {
    let mut columns = Vec::new();
    for column in batch.columns() {
        columns.push(match column.data_type() {
            DataType::Utf8 => Typed::Text(column.as_string::<i32>()),
            DataType::Timestamp(..) => Typed::Micros(column.as_primitive::<TimestampMicrosecondType>()),
            DataType::UInt8 => Typed::U8(column.as_primitive::<UInt8Type>()),
            DataType::UInt16 => Typed::U16(column.as_primitive::<UInt16Type>()),
            DataType::UInt64 => Typed::U64(column.as_primitive::<UInt64Type>()),
            other => return Err(format!("no column of type {other}").into()),
        });
    }
    Ok(columns)
}

/// Values one after the other, numbers as they lie in memory, text after its length.
fn row_binary(batches: &[RecordBatch]) -> Outcome<Vec<u8>> {
    let mut out = Vec::with_capacity(batches.iter().map(RecordBatch::get_array_memory_size).sum());
    for batch in batches {
        let columns = typed(batch)?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                match column {
                    Typed::Text(column) => {
                        let text = column.value(row);
                        let mut length = text.len();
                        while length >= 0x80 {
                            out.push((length as u8) | 0x80);
                            length >>= 7;
                        }
                        out.push(length as u8);
                        out.extend_from_slice(text.as_bytes());
                    }
                    Typed::Micros(column) => out.extend_from_slice(&column.value(row).to_le_bytes()),
                    Typed::U8(column) => out.push(column.value(row)),
                    Typed::U16(column) => out.extend_from_slice(&column.value(row).to_le_bytes()),
                    Typed::U64(column) => out.extend_from_slice(&column.value(row).to_le_bytes()),
                }
            }
        }
    }
    Ok(out)
}

fn json(batches: &[RecordBatch]) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    for batch in batches {
        let (schema, columns) = (batch.schema(), typed(batch)?);
        for row in 0..batch.num_rows() {
            for (place, column) in columns.iter().enumerate() {
                out.push(if place == 0 { b'{' } else { b',' });
                write!(out, "\"{}\":", schema.field(place).name())?;
                match column {
                    Typed::Text(column) => serde_json::to_writer(&mut out, column.value(row))?,
                    Typed::Micros(column) => {
                        let us = column.value(row);
                        write!(out, "\"{}.{:06}\"", us.div_euclid(1_000_000), us.rem_euclid(1_000_000))?;
                    }
                    Typed::U8(column) => write!(out, "{}", column.value(row))?,
                    Typed::U16(column) => write!(out, "{}", column.value(row))?,
                    Typed::U64(column) => write!(out, "{}", column.value(row))?,
                }
            }
            out.extend_from_slice(b"}\n");
        }
    }
    Ok(out)
}
