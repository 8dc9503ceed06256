//! A `postgres://` URL in, a checked [`ConnectConfig`] out. Nothing is connected to here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rollcall_model::Fault;
use url::Url;

/// How long a connection may take to be made, where the URL does not say (libpq waits for ever).
pub const DEFAULT_CONNECT_TIMEOUT_SECS: u64 = 10;
/// What `pg_stat_activity` shows, where the URL does not say.
pub const DEFAULT_APPLICATION_NAME: &str = "rollcall";
const DEFAULT_PORT: u16 = 5432;
/// Stands where a URL names no host.
const NO_HOST: &str = "no-host.invalid";

/// `sslmode`, as libpq means it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain; TLS if the server insists.
    Allow,
    /// TLS; plain if the server has none.
    Prefer,
    /// TLS; the certificate is only checked where `sslrootcert` is given.
    Require,
    /// TLS with a certificate signed by a trusted root.
    VerifyCa,
    /// The same, and it names the host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Where to connect, as whom, and how. `Debug` never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Host name, address, or the folder of a Unix socket (starts with `/`).
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub dbname: String,
    /// Whether and how strictly TLS is used.
    pub sslmode: SslMode,
    /// PEM file with the roots to trust; without it the system's.
    pub sslrootcert: Option<PathBuf>,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// How long making a connection may take; zero is without end.
    pub connect_timeout: Duration,
    password: Option<String>,
}

impl fmt::Debug for ConnectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("dbname", &self.dbname)
            .field("sslmode", &self.sslmode)
            .field("sslrootcert", &self.sslrootcert)
            .field("application_name", &self.application_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

impl fmt::Display for ConnectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.dbname)
    }
}

fn bad(what: impl fmt::Display) -> Fault {
    Fault::config(format!("the Postgres url {what}"))
        .repair("write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=prefer")
}

fn decoded(text: &str, part: &str) -> Result<String, Fault> {
    let text =
        percent_decode_str(text).decode_utf8().map_err(|_| bad(format!("has a {part} that is not UTF-8")))?;
    if text.contains('\0') {
        return Err(bad(format!("has a NUL in its {part}")));
    }
    Ok(text.into_owned())
}

impl ConnectConfig {
    /// Reads a `postgres://` or `postgresql://` URL.
    ///
    /// # Errors
    /// A [`Fault`] of kind `Config` that says which part is wrong, without showing the password.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        // libpq takes `user@/database?host=/folder`; the parser wants a host there.
        let whole = match url.split_once("@/") {
            Some((login, rest)) if !login.contains('?') => format!("{login}@{NO_HOST}/{rest}"),
            _ => url.to_owned(),
        };
        // The parser's own error could quote the text, and with it the password.
        let url = Url::parse(&whole).map_err(|_| bad("can't be read"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(bad(format!("has the scheme '{}'", url.scheme())));
        }
        let user = decoded(url.username(), "user")?;
        let mut config = Self {
            host: decoded(url.host_str().filter(|host| *host != NO_HOST).unwrap_or_default(), "host")?,
            port: url.port().unwrap_or(DEFAULT_PORT),
            dbname: decoded(url.path().trim_start_matches('/'), "database")?,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            application_name: DEFAULT_APPLICATION_NAME.to_owned(),
            connect_timeout: Duration::from_secs(DEFAULT_CONNECT_TIMEOUT_SECS),
            password: url.password().map(|password| decoded(password, "password")).transpose()?,
            user,
        };
        for (key, value) in url.query_pairs() {
            config.set(&key, &value)?;
        }
        if config.host.starts_with('[') && config.host.ends_with(']') {
            config.host = config.host[1..config.host.len() - 1].to_owned();
        }
        if config.host.is_empty() {
            return Err(bad("names no host"));
        }
        if config.user.is_empty() {
            return Err(bad("names no user"));
        }
        if config.dbname.is_empty() {
            config.dbname.clone_from(&config.user);
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        match key {
            "host" => value.clone_into(&mut self.host),
            "port" => self.port = value.parse().map_err(|_| bad("has a port that is no number"))?,
            "user" => value.clone_into(&mut self.user),
            "password" => self.password = Some(value.to_owned()),
            "dbname" => value.clone_into(&mut self.dbname),
            "application_name" => value.clone_into(&mut self.application_name),
            "sslrootcert" if value == "system" => self.sslrootcert = None,
            "sslrootcert" => self.sslrootcert = Some(PathBuf::from(value)),
            "sslmode" => {
                self.sslmode = SslMode::parse(value).ok_or_else(|| {
                    bad(format!(
                        "has sslmode={value}; there are disable, allow, prefer, require, verify-ca, verify-full"
                    ))
                })?;
            }
            "connect_timeout" => {
                let seconds = value.parse().map_err(|_| bad("has a connect_timeout that is no number"))?;
                self.connect_timeout = Duration::from_secs(seconds);
            }
            other => {
                return Err(bad(format!(
                    "has the parameter '{other}', which is not supported; there are host, port, user, password, \
                     dbname, sslmode, sslrootcert, application_name, connect_timeout"
                )));
            }
        }
        Ok(())
    }

    /// The password; never log it.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_part_is_read_and_the_password_is_never_shown() {
        let url = "postgres://us%40er:p%2Bw+1%2F%3F@db.example:6000/my%20db?sslmode=verify-full&sslrootcert=/ca.pem\
                   &application_name=a%20b&connect_timeout=3";
        let config = ConnectConfig::parse(url).unwrap();
        assert_eq!((config.user.as_str(), config.password()), ("us@er", Some("p+w+1/?")));
        assert_eq!(
            (config.host.as_str(), config.port, config.dbname.as_str()),
            ("db.example", 6000, "my db")
        );
        assert_eq!(config.sslmode, SslMode::VerifyFull);
        assert_eq!(config.sslrootcert.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!((config.application_name.as_str(), config.connect_timeout.as_secs()), ("a b", 3));
        let shown = format!("{config:?} {config}");
        assert!(!shown.contains("p+w"), "{shown}");
    }

    #[test]
    fn defaults_are_those_of_libpq() {
        let config = ConnectConfig::parse("postgresql://bob@[::1]").unwrap();
        assert_eq!((config.host.as_str(), config.port, config.dbname.as_str()), ("::1", 5432, "bob"));
        assert_eq!((config.sslmode, config.password()), (SslMode::Prefer, None));
        let socket = ConnectConfig::parse("postgres://bob@/db?host=/run/postgresql&port=5433").unwrap();
        assert_eq!((socket.host.as_str(), socket.port), ("/run/postgresql", 5433));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for (url, named) in [
            ("mysql://u:secret@h/d", "mysql"),
            ("postgres://u:secret@h:notaport/d", "can't be read"),
            ("postgres://u:secret@h/d?sslmode=on", "sslmode=on"),
            ("postgres://u:secret@h/d?sslcert=x", "sslcert"),
            ("postgres://:secret@h/d", "no user"),
        ] {
            let fault = ConnectConfig::parse(url).unwrap_err();
            assert_eq!(fault.kind, rollcall_model::FaultKind::Config);
            let text = format!("{fault} {fault:?}");
            assert!(text.contains(named) && !text.contains("secret"), "{text}");
        }
    }
}
