//! A stream of a table: its name, what it carries, and the records as they are sent.

use rollcall_model::Item;
use serde::Serialize;

use super::sequence::SequenceNumber;
use super::shards::{ShardTree, TreeRules};
use super::value;

/// What a record carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ViewType {
    /// The key alone.
    KeysOnly,
    /// What the item is afterwards.
    NewImage,
    /// What it was before.
    OldImage,
    /// Both.
    NewAndOldImages,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) arn: String,
    pub(crate) label: String,
    pub(crate) view: ViewType,
    pub(crate) created_us: i64,
    pub(crate) disabled_us: Option<i64>,
    pub(crate) tree: ShardTree,
}

/// A change of one item, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ItemWrite<'a> {
    pub(crate) key_name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) old: Option<&'a Item>,
    pub(crate) new: Option<&'a Item>,
    /// It was removed because its time was over.
    pub(crate) expired: bool,
}

impl Stream {
    pub(crate) fn new(table_arn: &str, view: ViewType, seed: u64, rules: TreeRules, now_us: i64) -> Self {
        let label = label(now_us);
        Self {
            arn: format!("{table_arn}/stream/{label}"),
            label,
            view,
            created_us: now_us,
            disabled_us: None,
            tree: ShardTree::new(seed, rules, now_us),
        }
    }

    /// The record of a write, as GetRecords sends it.
    pub(crate) fn render(
        view: ViewType,
        region: &str,
        write: ItemWrite<'_>,
        sequence: SequenceNumber,
        now_us: i64,
    ) -> String {
        let keys =
            Item::from([(write.key_name.to_owned(), rollcall_model::Attribute::S(write.key.to_owned()))]);
        let sends_new = matches!(view, ViewType::NewImage | ViewType::NewAndOldImages);
        let sends_old = matches!(view, ViewType::OldImage | ViewType::NewAndOldImages);
        let new_image = write.new.filter(|_| sends_new);
        let old_image = write.old.filter(|_| sends_old);
        let sequence = sequence.to_string();
        let record = RecordJson {
            event_id: format!("{:032x}", xxhash_rust::xxh64::xxh64(sequence.as_bytes(), 5)),
            event_name: match (write.old, write.new) {
                (None, _) => "INSERT",
                (Some(_), Some(_)) => "MODIFY",
                (Some(_), None) => "REMOVE",
            },
            event_version: "1.1",
            event_source: "aws:dynamodb",
            aws_region: region,
            user_identity: write
                .expired
                .then_some(IdentityJson { principal_id: "dynamodb.amazonaws.com", kind: "Service" }),
            dynamodb: StreamRecordJson {
                approximate_creation_date_time: now_us.div_euclid(1_000_000),
                size_bytes: value::size(&keys)
                    + new_image.map_or(0, value::size)
                    + old_image.map_or(0, value::size),
                keys,
                new_image,
                old_image,
                sequence_number: &sequence,
                stream_view_type: view,
            },
        };
        value::rendered(&[old_image, new_image], || serde_json::to_string(&record).unwrap_or_default())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordJson<'a> {
    #[serde(rename = "eventID")]
    event_id: String,
    event_name: &'static str,
    event_version: &'static str,
    event_source: &'static str,
    aws_region: &'a str,
    dynamodb: StreamRecordJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_identity: Option<IdentityJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRecordJson<'a> {
    approximate_creation_date_time: i64,
    keys: Item,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_image: Option<&'a Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_image: Option<&'a Item>,
    sequence_number: &'a str,
    size_bytes: u64,
    stream_view_type: ViewType,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdentityJson {
    principal_id: &'static str,
    #[serde(rename = "Type")]
    kind: &'static str,
}

/// A stream's label: when it was made, as text.
fn label(now_us: i64) -> String {
    let (date, second_us) = (now_us.div_euclid(86_400_000_000), now_us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(date);
    let ms = second_us / 1000;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1000)
}

/// Year, month and day of a day since 1970 (the proleptic Gregorian calendar, counted from March).
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
