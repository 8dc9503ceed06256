//! A source of type dynamodb: its keys, and what they must be to the other sources.

use std::collections::BTreeMap;

use rollcall_model::SourceName;

use super::config::{HOUR_MS, Platform, SourceConfig};
use super::reader::{Reader, Section, join};
use super::schema::{Key, Kind, Need, Shape, section};
use super::secret::Secret;
use super::tree::At;

/// One task reads some thousand shards; more spread what has to be decoded over cores and workers.
const DEFAULT_READERS: u64 = 4;
/// Four calls a second of the five that a shard allows: a change is seen within a quarter of one.
const DEFAULT_IDLE_POLL_MS: u64 = 250;
/// A shard on which nothing happens costs one call a second.
const DEFAULT_IDLE_POLL_MAX_MS: u64 = 1_000;
/// More than clocks of one region differ by, and than times in whole seconds hide.
const DEFAULT_CLOCK_SLACK_MS: u64 = 5_000;
const DEFAULT_SCAN_SEGMENTS: u64 = 4;
/// Items of a page of a backfill: DynamoDB gives at most a megabyte at a time anyway.
const DEFAULT_PAGE_ITEMS: u64 = 1_000;
const ENDPOINT: Kind = Kind::Url { schemes: &["http", "https"], embedded: false };
const STARTS: &[&str] = &["latest", "trim_horizon"];
const FIRST_LOADS: &[&str] = &["scan", "by_hand"];

section! {
    /// A DynamoDB table, read by its stream.
    DynamoDbSourceConfig {
        /// Whose items they are.
        platform: Platform = Kind::Choice(&["flagsmith"]), Need::Required;
        /// The table.
        table: String = Kind::Text, Need::Required;
        /// Its region, such as eu-west-2.
        region: String = Kind::Text, Need::Required;
        /// Where DynamoDB is, if not at AWS.
        endpoint: Option<Secret> = ENDPOINT, Need::Optional;
        /// Where S3 is for exports, if not at AWS.
        s3_endpoint: Option<Secret> = ENDPOINT, Need::Optional;
        /// A profile of the AWS configuration; without it and a key, whatever AWS' own tools would use.
        profile: Option<String> = Kind::Text, Need::Optional;
        /// The id of an access key.
        access_key_id: Option<Secret> = Kind::Secret, Need::Optional;
        /// Its secret.
        secret_access_key: Option<Secret> = Kind::Secret, Need::Optional;
        /// The token of a temporary key.
        session_token: Option<Secret> = Kind::Secret, Need::Optional;
        /// Tasks that share the stream's shards. Fixed when the stream began.
        readers: u16 = Kind::Int { min: 1, max: 64 }, Need::Number(DEFAULT_READERS);
        /// Where the stream begins: `latest` (what is written from now on) or `trim_horizon` (up to a day earlier: then an export of yesterday can be the first load).
        start: String = Kind::Choice(STARTS), Need::Word("latest");
        /// `scan`: the table is read whole at the first start; `by_hand`: `rollcall backfill` says from where.
        first_load: String = Kind::Choice(FIRST_LOADS), Need::Word("scan");
        /// Parallel parts of a scan.
        scan_segments: u16 = Kind::Int { min: 1, max: 1_000 }, Need::Number(DEFAULT_SCAN_SEGMENTS);
        /// Read capacity units that backfills spend in a second; without it, as many as they get.
        read_units_per_s: Option<u32> = Kind::Int { min: 1, max: 1_000_000 }, Need::Optional;
        /// Items of a page of a backfill.
        page_items: u32 = Kind::Int { min: 1, max: 1_000 }, Need::Number(DEFAULT_PAGE_ITEMS);
        /// How long a shard without news rests before it is asked again, in milliseconds.
        idle_poll_ms: u64 = Kind::Int { min: 200, max: 60_000 }, Need::Number(DEFAULT_IDLE_POLL_MS);
        /// What that grows to while nothing comes.
        idle_poll_max_ms: u64 = Kind::Int { min: 200, max: 60_000 }, Need::Number(DEFAULT_IDLE_POLL_MAX_MS);
        /// What clocks may differ by, in milliseconds, where a backfill is told from the stream.
        clock_slack_ms: u64 = Kind::Int { min: 1_000, max: HOUR_MS }, Need::Number(DEFAULT_CLOCK_SLACK_MS);
    }
}

/// What belongs together within the section.
pub(super) fn check(reader: &mut Reader<'_>, at: At, path: &str, source: &DynamoDbSourceConfig) {
    if source.access_key_id.is_some() != source.secret_access_key.is_some() {
        let (has, lacks) = if source.access_key_id.is_some() {
            ("access_key_id", "secret_access_key")
        } else {
            ("secret_access_key", "access_key_id")
        };
        reader.fault(at, &join(path, lacks), format!("'{lacks}' is missing: {has} needs it"));
    }
    if source.session_token.is_some() && source.access_key_id.is_none() {
        reader.fault(at, &join(path, "session_token"), "is of a temporary key: access_key_id is missing");
    }
    if source.profile.is_some() && source.access_key_id.is_some() {
        reader.fault(at, &join(path, "profile"), "stands beside access_key_id: one of them says who we are");
    }
    if source.idle_poll_max_ms < source.idle_poll_ms {
        reader.fault(at, &join(path, "idle_poll_max_ms"), "is less than idle_poll_ms, from which it grows");
    }
}

/// What sources must be to each other: their environments and segments come from one catalog.
pub(super) fn check_together(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    sources: &BTreeMap<SourceName, SourceConfig>,
) {
    let at = root.node("sources").map_or(At::START, |(at, _)| at);
    let of = |kind: &'static str| {
        sources.iter().filter(move |(_, source)| source.type_name() == kind).map(|(name, _)| name)
    };
    let catalogs: Vec<_> = of("postgres").collect();
    if let [first, second, ..] = catalogs.as_slice() {
        reader.fault_with(
            at,
            &join("sources", second.as_str()),
            format!("sources.{first} writes the catalog already, and two would stand under the same keys"),
            "give each platform database a log and a worker of its own",
        );
    }
    let edges: Vec<_> = of("dynamodb").collect();
    if let [first, second, ..] = edges.as_slice() {
        reader.fault_with(
            at,
            &join("sources", second.as_str()),
            format!("sources.{first} is the platform's edge already: an environment has one owner"),
            "give each table a log and a worker of its own",
        );
    }
    if let (Some(edge), true) = (edges.first(), catalogs.is_empty()) {
        reader.fault_with(
            at,
            &join("sources", edge.as_str()),
            "has no catalog: the segments and environments of its identities are in the platform's Postgres",
            "add a source of type postgres",
        );
    }
}
