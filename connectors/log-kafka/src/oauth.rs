//! Tokens for SASL OAUTHBEARER, by OAuth 2 client credentials (RFC 6749 §4.4).
//!
//! librdkafka asks from a thread of its own when the token nears its end, so this blocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use rdkafka::client::OAuthToken;
use rollcall_model::Fault;
use rollcall_schema_registry::https;
use serde::Deserialize;
use url::form_urlencoded;

use crate::config::OauthConfig;

/// A token endpoint that takes longer is down.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer without `expires_in` is taken for.
const LIFETIME: Duration = Duration::from_secs(300);
/// No token is near it.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Asks for a token.
pub(crate) fn token(config: &OauthConfig) -> Result<OAuthToken, Fault> {
    let config = config.clone();
    // A runtime of its own in a thread of its own: the caller may be inside one already.
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Fault::retry("no runtime to ask for a token").from_source(e))?;
        runtime.block_on(async {
            let asking = tokio::time::timeout(TIMEOUT, ask(&config)).await;
            asking.unwrap_or_else(|_| Err(Fault::retry(format!("no answer within {TIMEOUT:?}"))))
        })
    });
    let answer = asked.join().map_err(|_| Fault::bug("asking for a token broke off"))??;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = now + answer.expires_in.map_or(LIFETIME, Duration::from_secs);
    let lifetime_ms = i64::try_from(until.as_millis()).unwrap_or(i64::MAX);
    Ok(OAuthToken { token: answer.access_token, principal_name: String::new(), lifetime_ms })
}

async fn ask(config: &OauthConfig) -> Result<Answer, Fault> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &config.scope {
        form.append_pair("scope", scope);
    }
    let request = Request::post(&config.token_url)
        .header(AUTHORIZATION, https::basic(&config.client_id, &config.client_secret)?)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.finish())))
        .map_err(|e| Fault::config("log.sasl.token_url is no URL").from_source(e))?;
    let client = https::client(config.token_url.starts_with("https:"))?;
    let answer = client.request(request).await.map_err(|e| Fault::retry("no answer").from_source(e))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Fault::config(format!("it answered {status}")));
    }
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|e| Fault { source: Some(e), ..Fault::retry("its answer broke off") })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|e| Fault::config("its answer holds no token").from_source(e))
}
