//! Values that no log line, error or debug print may show.

use std::fmt;

/// A secret, or a URL that may hold one. Neither `Debug` nor `Serialize` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
    /// The value itself: for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// A URL without user, password and query, for people; `None` when it is none.
    #[must_use]
    pub fn public_url(&self) -> Option<String> {
        let mut url = url::Url::parse(&self.0).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only on URLs that can't have a user at all.
        url.set_password(None).ok()?;
        url.set_username("").ok()?;
        Some(url.to_string())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which ClickHouse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClickHouseUrl {
    /// The engine in a process of ours, its data beside the log.
    Embedded,
    /// A server's HTTP interface.
    Http(Secret),
}
