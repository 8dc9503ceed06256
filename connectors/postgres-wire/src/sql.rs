//! An SQL client of `tokio_postgres` on our own byte stream.

use std::time::Duration;

use rollcall_model::Fault;
use tokio_postgres::{Client, NoTls};

use crate::config::ConnectConfig;
use crate::fault::{ServerError, sql_fault};
use crate::stream::{attempts, open};

/// Runs `work` within the URL's `connect_timeout`.
pub(crate) async fn within<T>(
    config: &ConnectConfig,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    if config.connect_timeout == Duration::ZERO {
        return work.await;
    }
    tokio::time::timeout(config.connect_timeout, work).await.unwrap_or_else(|_| {
        Err(Fault::retry(format!("{config} doesn't answer within {} s", config.connect_timeout.as_secs()))
            .repair("check host, port and firewall, or raise connect_timeout in the url"))
    })
}

/// Connects for SQL. The connection lives in a task of its own, which ends with the client.
///
/// # Errors
/// A [`Fault`]: `Config` for what must be changed (password, database, rights, TLS), `Retry` for what may pass.
pub async fn connect(config: &ConnectConfig) -> Result<Client, Fault> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .user(&config.user)
        .dbname(&config.dbname)
        .application_name(&config.application_name)
        // The stream below is already encrypted where it should be.
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Some(password) = config.password() {
        settings.password(password);
    }
    within(config, async {
        let mut left = attempts(config).iter();
        let mut attempt = left.next();
        while let Some(this) = attempt {
            let stream = open(config, *this).await?;
            attempt = left.next();
            match settings.connect_raw(stream, NoTls).await {
                Ok((client, connection)) => {
                    let end = config.to_string();
                    tokio::spawn(async move {
                        // Whoever uses the client sees the failure too and says what it was doing.
                        if let Err(error) = connection.await {
                            tracing::debug!(connection = end, %error, "Postgres connection ended");
                        }
                    });
                    return Ok(client);
                }
                Err(error) if attempt.is_some() && refused_by_hba(&error) => {}
                // The client has no other sign of it than its words.
                Err(error)
                    if config.password().is_none() && format!("{error:?}").contains("password missing") =>
                {
                    return Err(Fault::config(format!("Postgres wants a password for {config}"))
                        .repair("put the password into the url")
                        .from_source(error));
                }
                Err(error) => return Err(sql_fault(config, "connecting", error)),
            }
        }
        Err(Fault::bug("no way of connecting was tried"))
    })
    .await
}

fn refused_by_hba(error: &tokio_postgres::Error) -> bool {
    error
        .as_db_error()
        .is_some_and(|db| ServerError::new(db.severity(), db.code().code(), db.message()).is_authorization())
}
