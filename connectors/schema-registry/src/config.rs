//! What the codec is told.

use std::fmt;

use rollcall_model::Fault;
use serde::Deserialize;
use url::Url;

/// How long one request may take by default: a registry answers from memory, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// Where the schema registry is and as whom it is asked.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address, `http://host:8081` or `https://…`; a path before `/subjects` is kept.
    pub url: String,
    /// The user or API key, where it asks for one (HTTP Basic).
    #[serde(default)]
    pub user: Option<String>,
    /// The password or API secret.
    #[serde(default)]
    pub password: Option<String>,
    /// Bound of one request.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    DEFAULT_TIMEOUT_MS
}

impl RegistryConfig {
    /// A registry that asks for no user, with the default timeout.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), user: None, password: None, timeout_ms: DEFAULT_TIMEOUT_MS }
    }

    pub(crate) fn parsed_url(&self) -> Result<Url, Fault> {
        let example = "write it as http://HOST:8081 or https://HOST";
        let mut url = Url::parse(&self.url).map_err(|e| {
            Fault::config("the schema registry's url is no URL").from_source(e).repair(example)
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(Fault::config("the schema registry's url is not one of HTTP").repair(example));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Faults and logs name the URL.
            return Err(Fault::config("the schema registry's url holds a user or password")
                .repair("give them as user and password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Fault::config("the schema registry's url has a query or a fragment").repair(example));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        if self.user.is_none() && self.password.is_some() {
            return Err(
                Fault::config("the schema registry has a password and no user").repair("give its user")
            );
        }
        Ok(url)
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none_are_refused_and_secrets_are_not_shown() {
        for bad in ["", "localhost:8081", "ftp://h", "http://u:p@h", "http://h?x=1"] {
            assert!(RegistryConfig::new(bad).parsed_url().is_err(), "{bad}");
        }
        let mut config = RegistryConfig::new("http://h/registry");
        assert_eq!(config.parsed_url().unwrap().as_str(), "http://h/registry/");
        config.password = Some("hunter2".to_owned());
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.parsed_url().is_err());
    }
}
