//! A sink of type parquet, the lake: its keys, and what they must be to each other and to other lakes.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{DAY_MS, SinkConfig};
use super::reader::{Reader, Section, join};
use super::schema::{Key, Kind, Need, Shape, section};
use super::secret::Secret;
use super::tree::At;

/// Few, large files: at ten minutes, a partition makes 144 files of a table a day at most.
const DEFAULT_FLUSH_AGE_MS: u64 = 600_000;
/// In memory, which are some tens of megabytes of Parquet: what readers like to take at once.
const DEFAULT_FILE_BYTES: u64 = 128 << 20;
/// Room for two full files: while one fills the others need not be cut small.
const DEFAULT_BUFFER_BYTES: u64 = 256 << 20;
/// A reader of one identity unpacks one row group's pages; a file of the usual size has several.
const DEFAULT_ROW_GROUP_ROWS: u64 = 100_000;
/// The level at which zstd's own command works.
const DEFAULT_ZSTD_LEVEL: u64 = 3;
/// A month of states to look back at.
const DEFAULT_HISTORY_DAYS: u64 = 30;
/// Longer than any rebuild reads.
const DEFAULT_READER_GRACE_MINUTES: u64 = 24 * 60;
const TEN_YEARS_DAYS: u64 = 3_650;
const ENDPOINT: Kind = Kind::Url { schemes: &["http", "https"], embedded: false };
const S3: &str = "s3://";

section! {
    /// The lake: identities, memberships, their changes and counts as Parquet files, from which everything can be rebuilt.
    ParquetSinkConfig {
        /// s3://bucket/prefix, or the path of a folder; a relative one starts at the folder of this file.
        bucket: String = Kind::Text, Need::Required;
        /// The bucket's region, such as eu-west-2.
        region: Option<String> = Kind::Text, Need::Optional;
        /// Where S3 is, if not at AWS.
        endpoint: Option<Secret> = ENDPOINT, Need::Optional;
        /// A profile of the AWS configuration; without it and a key, whatever AWS' own tools would use.
        profile: Option<String> = Kind::Text, Need::Optional;
        /// The id of an access key.
        access_key_id: Option<Secret> = Kind::Secret, Need::Optional;
        /// Its secret.
        secret_access_key: Option<Secret> = Kind::Secret, Need::Optional;
        /// The token of a temporary key.
        session_token: Option<Secret> = Kind::Secret, Need::Optional;
        /// The longest a record waits for its file, in milliseconds.
        flush_age_ms: u64 = Kind::Int { min: 10, max: DAY_MS }, Need::Number(DEFAULT_FLUSH_AGE_MS);
        /// Bytes in memory that make a file of one partition full; on disk it is several times smaller.
        file_bytes: u64 = Kind::Int { min: 1 << 10, max: 4 << 30 }, Need::Number(DEFAULT_FILE_BYTES);
        /// Bytes in memory of all partitions together; at that size the largest become files.
        buffer_bytes: u64 = Kind::Int { min: 1 << 10, max: 64 << 30 }, Need::Number(DEFAULT_BUFFER_BYTES);
        /// Rows of a row group at most.
        row_group_rows: u32 = Kind::Int { min: 1_000, max: 10_000_000 }, Need::Number(DEFAULT_ROW_GROUP_ROWS);
        /// The level of zstd.
        zstd_level: u16 = Kind::Int { min: 1, max: 22 }, Need::Number(DEFAULT_ZSTD_LEVEL);
        /// How far back `--as-of` reaches: `rollcall lake compact` keeps versions replaced within so many days.
        history_days: u32 = Kind::Int { min: 0, max: TEN_YEARS_DAYS }, Need::Number(DEFAULT_HISTORY_DAYS);
        /// Files of membership changes older than so many days go with a compaction; 0 keeps them for ever.
        retention_days: u32 = Kind::Int { min: 0, max: TEN_YEARS_DAYS }, Need::Number(0);
        /// How long what a compaction replaced stays for those who are reading it, in minutes.
        reader_grace_minutes: u32 = Kind::Int { min: 1, max: 30 * 24 * 60 }, Need::Number(DEFAULT_READER_GRACE_MINUTES);
    }
}

impl ParquetSinkConfig {
    /// Whether it lies in a bucket, not in a folder.
    #[must_use]
    pub fn is_in_bucket(&self) -> bool {
        self.bucket.starts_with(S3)
    }

    /// Where it lies, as a URL.
    pub(super) fn url(&self) -> String {
        let Some(path) = self.bucket.strip_prefix(S3) else { return self.bucket.clone() };
        let path = path.trim_end_matches('/');
        match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => format!("{}/{path}", endpoint.expose().trim_end_matches('/')),
            (None, Some(region)) => format!("https://s3.{region}.amazonaws.com/{path}"),
            (None, None) => format!("https://s3.amazonaws.com/{path}"),
        }
    }

    /// The same with a relative folder taken from `folder`.
    pub(super) fn root_at(&mut self, folder: &Path) {
        if !self.is_in_bucket() {
            let rooted = folder.join(&self.bucket).components().collect::<std::path::PathBuf>();
            self.bucket = rooted.to_string_lossy().into_owned();
        }
    }
}

/// What belongs together within the section.
pub(super) fn check(reader: &mut Reader<'_>, at: At, path: &str, sink: &ParquetSinkConfig) {
    let place = join(path, "bucket");
    if let Some(rest) = sink.bucket.strip_prefix(S3) {
        if rest.split('/').next().is_none_or(str::is_empty) {
            reader.fault_with(at, &place, "the bucket has no name", "bucket: s3://BUCKET/PREFIX");
        }
        if sink.region.is_none() {
            let repair = "The bucket's region, such as eu-west-2; of a server of your own, what it says, or us-east-1.";
            reader.fault_with(at, &join(path, "region"), "'region' is missing: a bucket is in one", repair);
        }
        check_key(reader, at, path, sink);
    } else if sink.bucket.contains("://") {
        let what = "is no place for a lake: of URLs, only s3:// is known";
        reader.fault_with(at, &place, what, "bucket: s3://BUCKET/PREFIX, or the path of a folder");
    } else {
        let given = [
            ("region", sink.region.is_some()),
            ("endpoint", sink.endpoint.is_some()),
            ("profile", sink.profile.is_some()),
            ("access_key_id", sink.access_key_id.is_some()),
            ("secret_access_key", sink.secret_access_key.is_some()),
            ("session_token", sink.session_token.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            let what = "is of a bucket, and 'bucket' is the path of a folder";
            reader.fault_with(at, &join(path, name), what, "bucket: s3://BUCKET/PREFIX");
        }
    }
    if sink.buffer_bytes < sink.file_bytes {
        let what = "is less than file_bytes: no file would ever get full";
        reader.fault(at, &join(path, "buffer_bytes"), what);
    }
}

fn check_key(reader: &mut Reader<'_>, at: At, path: &str, sink: &ParquetSinkConfig) {
    if sink.access_key_id.is_some() != sink.secret_access_key.is_some() {
        let (has, lacks) = if sink.access_key_id.is_some() {
            ("access_key_id", "secret_access_key")
        } else {
            ("secret_access_key", "access_key_id")
        };
        reader.fault(at, &join(path, lacks), format!("'{lacks}' is missing: {has} needs it"));
    }
    if sink.session_token.is_some() && sink.access_key_id.is_none() {
        reader.fault(at, &join(path, "session_token"), "is of a temporary key: access_key_id is missing");
    }
    if sink.profile.is_some() && sink.access_key_id.is_some() {
        reader.fault(at, &join(path, "profile"), "stands beside access_key_id: one of them says who we are");
    }
}

/// What lakes must be to each other and to the log.
pub(super) fn check_together(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    sinks: &BTreeMap<String, SinkConfig>,
    is_shared: bool,
) {
    let at = root.node("sinks").map_or(At::START, |(at, _)| at);
    let mut places: BTreeMap<String, &str> = BTreeMap::new();
    for (name, sink) in sinks {
        let SinkConfig::Parquet(sink) = sink else { continue };
        let place = join(&join("sinks", name), "bucket");
        if let Some(first) = places.insert(sink.url(), name) {
            let what = format!("sinks.{first} lies there already, and a lake has one writer");
            reader.fault_with(at, &place, what, "give it a prefix of its own");
        }
        if is_shared && !sink.is_in_bucket() {
            reader.fault_with(
                at,
                &place,
                "a folder is one machine's, and with log.type kafka the sink moves between workers",
                "bucket: s3://BUCKET/PREFIX",
            );
        }
    }
}
