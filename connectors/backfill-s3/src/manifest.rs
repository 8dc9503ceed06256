//! The manifests of an export: their JSON flows in, what the export is and its files in order flow out. Pure.
//!
//! The form is that of "DynamoDB table export output format" (Developer Guide, S3DataExport.Output):
//!
//! ```text
//! prefix/AWSDynamoDB/<id>/manifest-summary.json   one object: table, times, format, how many items
//!                         manifest-summary.md5    (`.checksum` in AWS's text)
//!                         manifest-files.json     a line per file: itemCount, md5Checksum, dataFileS3Key
//!                         manifest-files.md5
//!                         data/*.json.gz          of a full export
//! prefix/AWSDynamoDB/data/*.json.gz               of incremental ones, shared
//! ```
//!
//! Keys are the bucket's. A copy of an export lies elsewhere, so a key is taken by what follows `AWSDynamoDB/` and found
//! beside the manifest: for the original that is the same object.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rollcall_model::Fault;
use rollcall_model::shards::Coverage;
use serde::Deserialize;

/// A checksum.
pub(crate) type Checksum = [u8; 16];

/// Where a file lies, seen from the export's folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Beside {
    /// In the folder.
    Within(String),
    /// In the folder that holds it: incremental exports share their data folder.
    Above(String),
}

impl Beside {
    /// The file that a key of the bucket means, for the export `id`.
    fn of_key(key: &str, id: &str) -> Option<Self> {
        let after = key.rfind("AWSDynamoDB/").map_or(key, |at| &key[at + "AWSDynamoDB/".len()..]);
        // A manifest is outside input: it must not lead out of the export.
        if after.is_empty()
            || after.starts_with('/')
            || after.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return None;
        }
        match after.split_once('/') {
            Some((first, rest)) if first == id => Some(Self::Within(rest.to_owned())),
            Some(_) | None => Some(Self::Above(after.to_owned())),
        }
    }
}

/// What the export holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The table as it was at a time.
    Full { at_us: i64 },
    /// What was written in a window.
    Incremental { from_us: i64, to_us: i64 },
}

impl Kind {
    /// The time that its items are as of.
    pub(crate) fn as_of_us(&self) -> i64 {
        match self {
            Self::Full { at_us } => *at_us,
            Self::Incremental { from_us: _, to_us } => *to_us,
        }
    }
    /// What follows for items that are not in it.
    pub(crate) fn coverage(&self, slack_us: i64) -> Coverage {
        match self {
            Self::Full { at_us } => Coverage::Whole { cut_us: at_us.saturating_sub(slack_us) },
            Self::Incremental { from_us, to_us } => Coverage::Window { from_us: *from_us, to_us: *to_us },
        }
    }
}

/// `manifest-summary.json`, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    /// The export's ARN.
    pub(crate) arn: String,
    /// The last part of the ARN, which is the name of its folder.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    /// Where the list of files lies.
    pub(crate) files: Beside,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSummary {
    export_arn: String,
    table_arn: String,
    export_time: Option<String>,
    export_from_time: Option<String>,
    export_to_time: Option<String>,
    export_type: Option<String>,
    output_format: String,
    output_view: Option<String>,
    manifest_files_s3_key: String,
    item_count: u64,
    #[serde(default)]
    billed_size_bytes: u64,
}

/// Reads the summary, which must be of `table`. `name` is the file's name, for people.
pub(crate) fn summary(json: &[u8], name: &str, table: &str) -> Result<Summary, Fault> {
    let raw: RawSummary = serde_json::from_slice(json).map_err(|e| {
        Fault::refused(format!("{name} is not the summary of a DynamoDB export: {e}"))
            .repair("copy the export again, or name the folder AWSDynamoDB/EXPORT-ID of an export")
    })?;
    if raw.output_format != "DYNAMODB_JSON" {
        return Err(Fault::refused(format!(
            "{name}: the export is in {}, which is not read",
            raw.output_format
        ))
        .repair("export the table again with --export-format DYNAMODB_JSON"));
    }
    same_table(&raw.table_arn, table, name)?;
    let kind = kind(&raw, name)?;
    let id = raw.export_arn.rsplit('/').next().unwrap_or_default().to_owned();
    let files = Beside::of_key(&raw.manifest_files_s3_key, &id)
        .ok_or_else(|| strange_key(name, &raw.manifest_files_s3_key))?;
    Ok(Summary { arn: raw.export_arn, id, kind, items: raw.item_count, bytes: raw.billed_size_bytes, files })
}

fn kind(raw: &RawSummary, name: &str) -> Result<Kind, Fault> {
    let time = |field: &str, value: &Option<String>| -> Result<i64, Fault> {
        let text = value.as_deref().unwrap_or_default();
        micros(text).ok_or_else(|| {
            Fault::refused(format!(
                "{name}: {field} is '{text}', which is no time such as 2026-11-04T07:28:34.028Z"
            ))
            .repair("copy the export again")
        })
    };
    let export_type = match (&raw.export_type, &raw.export_from_time) {
        (Some(named), _) => named.as_str(),
        // Full exports of before there were incremental ones say nothing.
        (None, None) => "FULL_EXPORT",
        (None, Some(_)) => "INCREMENTAL_EXPORT",
    };
    match export_type {
        "FULL_EXPORT" => Ok(Kind::Full { at_us: time("exportTime", &raw.export_time)? }),
        "INCREMENTAL_EXPORT" => {
            match raw.output_view.as_deref() {
                None | Some("NEW_IMAGE" | "NEW_IMAGES" | "NEW_AND_OLD_IMAGES") => {}
                Some(view) => {
                    return Err(Fault::refused(format!(
                        "{name}: the export has the view {view}, without new images"
                    ))
                    .repair("export again with ExportViewType=NEW_AND_OLD_IMAGES"));
                }
            }
            let from_us = time("exportFromTime", &raw.export_from_time)?;
            let to_us = time("exportToTime", &raw.export_to_time)?;
            if from_us >= to_us {
                return Err(Fault::refused(format!("{name}: the window ends before it begins"))
                    .repair("copy the export again"));
            }
            Ok(Kind::Incremental { from_us, to_us })
        }
        other => {
            Err(Fault::refused(format!("{name}: the export is a {other}, which this version doesn't know"))
                .repair("export again as FULL_EXPORT or INCREMENTAL_EXPORT"))
        }
    }
}

/// The name in a table's ARN; a name is its own.
fn table_name(table: &str) -> &str {
    table.split_once(":table/").map_or(table, |(_, rest)| rest.split('/').next().unwrap_or(rest))
}

fn same_table(arn: &str, table: &str, name: &str) -> Result<(), Fault> {
    let same = if table.starts_with("arn:") { arn == table } else { table_name(arn) == table };
    if same {
        return Ok(());
    }
    Err(Fault::refused(format!("{name}: the export is of {arn}, the source reads {table}"))
        .repair(format!("name an export of {table}, or correct `table` of the source in topology.yaml")))
}

fn micros(text: &str) -> Option<i64> {
    let time = DateTime::from_str(text, Format::DateTime).ok()?;
    time.secs().checked_mul(1_000_000)?.checked_add(i64::from(time.subsec_nanos() / 1_000))
}

/// A file of the export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DataFile {
    pub(crate) place: Beside,
    pub(crate) items: u64,
    pub(crate) checksum: Checksum,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    item_count: u64,
    md5_checksum: String,
    data_file_s3_key: String,
}

/// Reads the list of files. Together they must have as many items as the summary says.
pub(crate) fn files(json: &[u8], name: &str, summary: &Summary) -> Result<Vec<DataFile>, Fault> {
    let mut files = Vec::new();
    let mut items = 0_u64;
    for (index, line) in json.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at = format!("{name}:{}", index + 1);
        let raw: RawFile = serde_json::from_slice(line).map_err(|e| {
            Fault::refused(format!("{at} doesn't describe a file: {e}")).repair("copy the export again")
        })?;
        let checksum = read_checksum(raw.md5_checksum.as_bytes()).ok_or_else(|| {
            Fault::refused(format!("{at}: '{}' is no md5 in base64", raw.md5_checksum))
                .repair("copy the export again")
        })?;
        let place = Beside::of_key(&raw.data_file_s3_key, &summary.id)
            .ok_or_else(|| strange_key(&at, &raw.data_file_s3_key))?;
        items = items.saturating_add(raw.item_count);
        files.push(DataFile { place, items: raw.item_count, checksum });
    }
    if items != summary.items {
        return Err(Fault::refused(format!(
            "{name} lists {} files with {items} items, the export has {}: the list is not whole",
            files.len(),
            summary.items
        ))
        .repair("copy the export again, with all of its files"));
    }
    Ok(files)
}

fn strange_key(at: &str, key: &str) -> Fault {
    Fault::refused(format!("{at}: the key '{key}' leads out of the export")).repair("copy the export again")
}

/// A checksum as AWS writes it: base64; tools write hexadecimal digits.
pub(crate) fn read_checksum(text: &[u8]) -> Option<Checksum> {
    let text = text.trim_ascii();
    if text.len() == 32 {
        let mut sum = [0; 16];
        for (byte, pair) in sum.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        return Some(sum);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A checksum as the manifest writes it.
pub(crate) fn write_checksum(sum: &Checksum) -> String {
    STANDARD.encode(sum)
}

/// Refuses a manifest that is not what its checksum file says.
pub(crate) fn check(json: &[u8], sum: &[u8], name: &str) -> Result<(), Fault> {
    let said = read_checksum(sum);
    if said.is_some_and(|said| said == Checksum::from(Md5::digest(json))) {
        return Ok(());
    }
    Err(Fault::refused(format!("{name} doesn't have the checksum of its .md5 file"))
        .repair("copy the export again"))
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
