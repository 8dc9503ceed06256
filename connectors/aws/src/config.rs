//! Settings in, the SDK's configuration out.

use std::fmt;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use rollcall_model::Fault;

/// A connection that takes longer is given up.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// An answer whose first byte takes longer is given up.
const READ_TIMEOUT_MS: u64 = 20_000;
/// A call that takes longer as a whole is given up.
const OPERATION_TIMEOUT_MS: u64 = 60_000;

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// The SDK's chain: environment, profile, web identity, container, instance.
    #[default]
    Default,
    /// A profile of the shared configuration files.
    Profile(String),
    /// Given.
    Static {
        /// The key's id.
        access_key_id: String,
        /// The key.
        secret_access_key: String,
        /// The token of a temporary key.
        session_token: Option<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("Default"),
            Self::Profile(name) => write!(f, "Profile({name})"),
            Self::Static { access_key_id, .. } => write!(f, "Static({access_key_id}, …)"),
        }
    }
}

/// An account and a region of AWS, or what speaks like it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsConfig {
    /// The region.
    pub region: String,
    /// Another address than the region's own: an emulator, a VPC endpoint.
    pub endpoint: Option<String>,
    /// Where credentials come from.
    pub credentials: Credentials,
}

/// The SDK's configuration: no retries of its own, every wait bounded. Credentials are asked for at the first call.
///
/// # Errors
/// A [`Fault`] when a setting can't be right.
pub async fn load(config: &AwsConfig) -> Result<SdkConfig, Fault> {
    if config.region.trim().is_empty() {
        return Err(Fault::config("no AWS region is set").repair("set region, such as eu-west-2"));
    }
    let plain = match config.endpoint.as_deref() {
        None => false,
        Some(endpoint) if endpoint.starts_with("http://") => true,
        Some(endpoint) if endpoint.starts_with("https://") => false,
        Some(endpoint) => {
            return Err(Fault::config(format!("the endpoint '{endpoint}' is no address"))
                .repair("begin it with http:// or https://"));
        }
    };
    let given = matches!(config.credentials, Credentials::Static { .. });
    // Nothing needs TLS then, and no certificates have to be on the machine.
    let http = if plain && given {
        Builder::new().build_http()
    } else {
        Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
        .operation_timeout(Duration::from_millis(OPERATION_TIMEOUT_MS))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .http_client(http);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader = match &config.credentials {
        Credentials::Default => loader,
        Credentials::Profile(name) => {
            loader.credentials_provider(ProfileFileCredentialsProvider::builder().profile_name(name).build())
        }
        Credentials::Static { access_key_id, secret_access_key, session_token } => loader
            .credentials_provider(aws_credential_types::Credentials::new(
                access_key_id,
                secret_access_key,
                session_token.clone(),
                None,
                "rollcall",
            )),
    };
    Ok(Box::pin(loader.load()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(endpoint: Option<&str>) -> AwsConfig {
        AwsConfig {
            region: "eu-west-2".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            credentials: Credentials::Static {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: "very-secret".to_owned(),
                session_token: Some("also-secret".to_owned()),
            },
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", with(None));
        assert!(text.contains("AKIDEXAMPLE") && !text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn settings_arrive_and_the_sdk_does_not_retry() {
        let loaded = load(&with(Some("http://127.0.0.1:1"))).await.expect("a configuration");
        assert_eq!(loaded.endpoint_url(), Some("http://127.0.0.1:1"));
        assert_eq!(loaded.region().map(ToString::to_string), Some("eu-west-2".to_owned()));
        assert_eq!(loaded.retry_config().map(RetryConfig::max_attempts), Some(1));
        assert!(loaded.timeout_config().is_some_and(|timeouts| timeouts.operation_timeout().is_some()));
        load(&with(None)).await.expect("TLS with ring");
    }

    #[tokio::test]
    async fn what_can_not_be_right_is_refused() {
        let fault = load(&with(Some("127.0.0.1:8000"))).await.expect_err("no scheme");
        assert!(fault.to_string().contains("http://"), "{fault}");
        let empty = AwsConfig { region: " ".to_owned(), ..with(None) };
        assert!(load(&empty).await.is_err());
    }
}
