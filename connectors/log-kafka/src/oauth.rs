//! Tokens for SASL OAUTHBEARER, by OAuth 2 client credentials (RFC 6749 §4.4).
//!
//! librdkafka asks from a thread of its own when the token nears its end, so this blocks.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::client::OAuthToken;
use serde::Deserialize;

use crate::config::OauthConfig;

/// A token endpoint that takes longer is down.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer without `expires_in` is taken for.
const LIFETIME: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Asks for a token.
pub(crate) fn token(config: &OauthConfig) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let config = config.clone();
    // A runtime of its own in a thread of its own: the caller may be inside one already.
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = client()?;
        runtime.map_err(|e| e.to_string())?.block_on(ask(&client, &config)).map_err(|e| whole_text(&e))
    });
    let answer = asked.join().map_err(|_| "asking for a token broke off")??;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lifetime = answer.1.map_or(LIFETIME, Duration::from_secs);
    let until = i64::try_from((now + lifetime).as_millis()).unwrap_or(i64::MAX);
    Ok(OAuthToken { token: answer.0, principal_name: String::new(), lifetime_ms: until })
}

/// Trusts what the machine trusts.
fn client() -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().timeout(TIMEOUT).tls_backend_preconfigured(tls);
    client.build().map_err(|e| whole_text(&e))
}

async fn ask(
    client: &reqwest::Client,
    config: &OauthConfig,
) -> Result<(String, Option<u64>), reqwest::Error> {
    let mut form = vec![("grant_type", "client_credentials")];
    if let Some(scope) = &config.scope {
        form.push(("scope", scope));
    }
    let request = client.post(&config.token_url).basic_auth(&config.client_id, Some(&config.client_secret));
    let answer: Answer = request.form(&form).send().await?.error_for_status()?.json().await?;
    Ok((answer.access_token, answer.expires_in))
}

fn whole_text(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let part = error.to_string();
        text = if text.is_empty() { part } else { format!("{text}: {part}") };
        cause = error.source();
    }
    text
}
