//! ClickHouse over HTTP: one query or insert in, an answer or a [`Fault`] out.

use std::time::Duration;

use clickhouse::error::Error;
use clickhouse::query::Query;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use rollcall_model::{Fault, FaultKind};
use tokio::time::timeout;
use url::Host;

use crate::config::ClickHouseSinkConfig;

/// The command that repairs whatever is wrong with the sink's own tables.
pub(crate) const REBUILD: &str = "rollcall rebuild clickhouse";

/// Memory of one query that reads a whole environment.
const COSTLY_BYTES_MAX: u64 = 2 << 30;

/// A connection pool and what to call its server in a message.
#[derive(Clone)]
pub(crate) struct Wire {
    client: Client,
    place: String,
    query_timeout: Duration,
    insert_timeout: Duration,
}

/// Why an insert failed.
#[derive(Debug)]
pub(crate) enum InsertError {
    /// The server would not take a row; its own words.
    Row(String),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for InsertError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Wire {
    pub(crate) fn new(config: &ClickHouseSinkConfig) -> Result<Self, Fault> {
        let url = config.parsed_url()?;
        let is_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let host = url.host_str().unwrap_or_default();
        let place = match url.port_or_known_default() {
            Some(port) => format!("ClickHouse at {host}:{port}"),
            None => format!("ClickHouse at {host}"),
        };
        // Bytes cost more to compress than to hand over within one machine.
        let compression = if is_loopback { Compression::None } else { Compression::Lz4 };
        let mut client = Client::default().with_url(url.as_str()).with_compression(compression);
        if let Some(user) = &config.user {
            client = client.with_user(user);
        }
        if let Some(password) = &config.password {
            client = client.with_password(password);
        }
        Ok(Self {
            client: client.with_product_info("rollcall", env!("CARGO_PKG_VERSION")),
            place,
            query_timeout: Duration::from_millis(config.query_timeout_ms),
            insert_timeout: Duration::from_millis(config.insert_timeout_ms),
        })
    }

    /// A query; its values are bound with [`Query::param`].
    pub(crate) fn query(&self, sql: &str) -> Query {
        self.client.query_raw(sql)
    }

    /// A query that reads as much as somebody cared to ask for: the server gives it up when nobody waits for it any
    /// more, or when it would take the memory of others.
    pub(crate) fn costly_query(&self, sql: &str) -> Query {
        self.query(sql)
            .with_setting("max_execution_time", self.query_timeout.as_secs().max(1).to_string())
            .with_setting("max_memory_usage", COSTLY_BYTES_MAX.to_string())
    }

    /// A query whose unqualified names belong to `database`.
    pub(crate) fn query_in(&self, database: &str, sql: &str) -> Query {
        self.client.clone().with_database(database).query_raw(sql)
    }

    pub(crate) async fn execute(&self, doing: &str, query: Query) -> Result<(), Fault> {
        let answer = timeout(self.query_timeout, query.execute()).await.unwrap_or(Err(Error::TimedOut));
        answer.map_err(|e| self.fault(doing, &e))
    }

    pub(crate) async fn fetch<T: RowOwned + RowRead>(
        &self,
        doing: &str,
        query: Query,
    ) -> Result<Vec<T>, Fault> {
        let answer = timeout(self.query_timeout, query.fetch_all()).await.unwrap_or(Err(Error::TimedOut));
        answer.map_err(|e| self.fault(doing, &e))
    }

    /// Sends chunks of an Arrow stream as they come. The statement takes effect at the end or, block by block, not at
    /// all; either way it can be sent again.
    pub(crate) async fn insert(
        &self,
        sql: &str,
        mut chunks: impl Iterator<Item = Result<Vec<u8>, Fault>> + Send,
    ) -> Result<(), InsertError> {
        let mut insert = INSERT_SETTINGS
            .iter()
            .fold(self.client.insert_formatted_with(sql), |i, (name, value)| i.with_setting(*name, *value))
            .with_timeouts(Some(self.insert_timeout), Some(self.insert_timeout));
        let outcome = loop {
            match chunks.next() {
                Some(chunk) => {
                    if let Err(error) = insert.send(chunk?.into()).await {
                        break Err(error);
                    }
                }
                None => break insert.end().await,
            }
        };
        outcome.map_err(|error| match Exception::of(&error) {
            Some(exception) if exception.is_about_a_row() => InsertError::Row(exception.text.to_owned()),
            Some(_) | None => InsertError::Fault(self.fault("insert rows", &error)),
        })
    }

    fn fault(&self, doing: &str, error: &Error) -> Fault {
        let place = &self.place;
        let Some(exception) = Exception::of(error) else {
            // The crate's own words: a broken connection, a timeout, an answer that isn't ClickHouse's.
            return Fault::retry(format!("can't {doing}: {place}: {}", chain(error)));
        };
        let kind = exception.kind();
        let what = format!("can't {doing}: {place} says: {}", exception.told(kind));
        match kind {
            FaultKind::Refused => Fault::refused(what).repair(REBUILD),
            FaultKind::Config => Fault::config(what)
                .repair("correct the sink's user, password and rights (rollcall setup --print-sql)"),
            FaultKind::Retry | FaultKind::BadRecord | FaultKind::Fenced | FaultKind::Bug => {
                Fault::new(kind, what)
            }
        }
    }
}

/// Settings of every insert. Each keeps values as they are, or rows from being dropped, whatever the user's profile
/// says.
const INSERT_SETTINGS: &[(&str, &str)] = &[
    // Text that looks like a date stays text.
    ("input_format_try_infer_dates", "0"),
    ("input_format_try_infer_datetimes", "0"),
    ("input_format_json_try_infer_numbers_from_strings", "0"),
    // A key with a dot is the path that readers ask for.
    ("json_type_escape_dots_in_keys", "0"),
    // The answer means durable.
    ("async_insert", "0"),
    // A batch sent again into tables emptied meanwhile must go in; versions make repeats harmless.
    ("insert_deduplicate", "0"),
    ("input_format_arrow_allow_missing_columns", "0"),
];

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// An answer of the server that says no: `Code: 60. DB::Exception: … (UNKNOWN_TABLE)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Exception<'a> {
    code: u32,
    text: &'a str,
}

/// A message is told up to here: some repeat the whole query.
const TOLD_CHARS_MAX: usize = 300;

impl<'a> Exception<'a> {
    fn of(error: &'a Error) -> Option<Self> {
        let Error::BadResponse(text) = error else { return None };
        let digits = text.split_once("Code: ")?.1;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Some(Self { code: digits[..end].parse().ok()?, text })
    }

    /// Codes by which ClickHouse refuses what stands in a row: parsing, conversion, range, constraint.
    fn is_about_a_row(self) -> bool {
        matches!(
            self.code,
            6 | 25
                | 26
                | 27
                | 38
                | 41
                | 53
                | 69
                | 70
                | 72
                | 117
                | 130
                | 131
                | 190
                | 321
                | 349
                | 407
                | 469
                | 691
        )
    }

    /// Codes of a server that can't now, or can't for a reason unknown here, are worth another try; the others say who
    /// has to do something.
    fn kind(self) -> FaultKind {
        match self.code {
            // Wrong password or user, missing right, read-only user, a setting unknown or forbidden.
            115 | 164 | 192 | 193 | 194 | 291 | 452 | 497 | 516 => FaultKind::Config,
            // A table, column or database is gone or another than was checked.
            8 | 10 | 16 | 47 | 60 | 81 | 218 => FaultKind::Refused,
            // Our own SQL.
            46 | 62 => FaultKind::Bug,
            _ if self.is_about_a_row() => FaultKind::BadRecord,
            _ => FaultKind::Retry,
        }
    }

    /// What may be said of it in a fault, which holds no row values.
    fn told(self, kind: FaultKind) -> String {
        if kind == FaultKind::BadRecord {
            let name =
                self.text.rsplit_once('(').map_or("", |(_, name)| name.trim_end_matches([')', '\n', ' ']));
            return format!("code {} {name}", self.code);
        }
        let line = self.text.lines().next().unwrap_or_default();
        line.chars().take(TOLD_CHARS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> Wire {
        let mut config = ClickHouseSinkConfig::new("ch", "http://db.example:8123");
        config.password = Some("secret".into());
        Wire::new(&config).expect("a good configuration")
    }

    fn fault(text: &str) -> Fault {
        wire().fault("read", &Error::BadResponse(text.into()))
    }

    #[test]
    fn each_answer_says_who_has_to_act() {
        let kind = |text| fault(text).kind;
        assert_eq!(
            kind("Code: 516. DB::Exception: default: Authentication failed (AUTHENTICATION_FAILED)"),
            FaultKind::Config
        );
        assert_eq!(
            kind("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)"),
            FaultKind::Refused
        );
        assert_eq!(kind("Code: 241. DB::Exception: (MEMORY_LIMIT_EXCEEDED)"), FaultKind::Retry);
        assert_eq!(kind("502 Bad Gateway"), FaultKind::Retry);
        assert_eq!(wire().fault("read", &Error::TimedOut).kind, FaultKind::Retry);
    }

    #[test]
    fn a_fault_tells_no_row_and_no_password() {
        let told = fault(
            "Code: 117. DB::Exception: Cannot parse JSON object here: {\"mail\":\"ann@x\"}. (INCORRECT_DATA)",
        );
        assert_eq!(told.kind, FaultKind::BadRecord);
        let told = told.to_string();
        assert!(told.contains("117 INCORRECT_DATA") && !told.contains("ann@x"), "{told}");
        let refused =
            fault("Code: 60. DB::Exception: Table rollcall.IDENTITIES does not exist. (UNKNOWN_TABLE)")
                .to_string();
        assert!(refused.contains("db.example:8123") && refused.contains(REBUILD), "{refused}");
        assert!(!refused.contains("secret"));
    }
}
