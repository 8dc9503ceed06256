//! What the sink is told.

use std::fmt;

use rollcall_model::Fault;
use serde::Deserialize;
use url::Url;

/// How long a query may take by default: reads over millions of members take seconds, not minutes.
pub const DEFAULT_QUERY_TIMEOUT_MS: u64 = 60_000;
/// How long an insert may take by default: 100,000 rows of JSON take a second on a small machine.
pub const DEFAULT_INSERT_TIMEOUT_MS: u64 = 120_000;

/// Which shape the platform's own readers find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Only Rollcall's own tables and views.
    #[default]
    Native,
    /// Also the view `IDENTITIES` in the platform's database, with the platform's columns.
    Flagsmith,
}

/// Where the sink writes and as whom.
#[derive(Clone, Deserialize)]
pub struct ClickHouseSinkConfig {
    /// Its name in the topology; the `store` of its check reports.
    pub name: String,
    /// The HTTP endpoint, `http://host:8123` or `https://host:8443`. The caller has resolved `embedded`.
    pub url: String,
    /// The user; the server's default user when absent.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// The platform's database, where preset `flagsmith` puts its view.
    pub database: String,
    /// The preset.
    pub preset: Preset,
    /// Bound of one query.
    pub query_timeout_ms: u64,
    /// Bound of one insert.
    pub insert_timeout_ms: u64,
}

impl ClickHouseSinkConfig {
    /// A configuration with the defaults: the default user, database `default`, preset `native`.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            user: None,
            password: None,
            database: "default".into(),
            preset: Preset::Native,
            query_timeout_ms: DEFAULT_QUERY_TIMEOUT_MS,
            insert_timeout_ms: DEFAULT_INSERT_TIMEOUT_MS,
        }
    }

    pub(crate) fn parsed_url(&self) -> Result<Url, Fault> {
        let url = Url::parse(&self.url)
            .map_err(|e| Fault::config(format!("sinks.{}.url is not a URL", self.name)).from_source(e))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(Fault::config(format!(
                "sinks.{}.url must be the HTTP endpoint of ClickHouse, such as http://localhost:8123",
                self.name
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Fault::config(format!(
                "sinks.{}.url holds a user or password; they have keys of their own: user, password",
                self.name
            )));
        }
        Ok(url)
    }
}

impl fmt::Debug for ClickHouseSinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseSinkConfig")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("database", &self.database)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}
