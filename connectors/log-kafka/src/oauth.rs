//! Tokens for SASL OAUTHBEARER, by OAuth 2 client credentials (RFC 6749 §4.4).
//!
//! librdkafka wishes for one in the queue of its client, and whoever serves that asks here, so this blocks. The admin
//! client of rust-rdkafka has nobody who serves it: it is given one, which is the only unsafe code of the crate.

use std::ffi::{CStr, CString};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_resp_err_t};
use rdkafka::client::{Client, OAuthToken};
use rollcall_model::{Fault, FaultKind};
use rollcall_schema_registry::https;
use serde::Deserialize;
use url::form_urlencoded;

use crate::config::OauthConfig;
use crate::context::Context;

/// A token endpoint that takes longer is down.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer without `expires_in` is taken for.
const LIFETIME: Duration = Duration::from_secs(300);
/// Longer than any token lives; what an endpoint says beyond is cut.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// No token is near it.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Asks for a token. A fault says which endpoint, and what to do about it.
pub(crate) fn token(config: &OauthConfig) -> Result<OAuthToken, Fault> {
    let asking = config.clone();
    // A runtime of its own in a thread of its own: the caller may be inside one already.
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Fault::retry("no runtime to ask for a token").from_source(e))?;
        runtime.block_on(async {
            let answer = tokio::time::timeout(TIMEOUT, ask(&asking)).await;
            answer.unwrap_or_else(|_| Err(Fault::retry(format!("no answer within {TIMEOUT:?}"))))
        })
    });
    let answer = asked.join().unwrap_or_else(|_| Err(Fault::bug("asking for a token broke off")));
    let answer = answer.map_err(|fault| {
        let what = format!("no token of {} (log.sasl.token_url): {}", config.token_url, fault.what);
        let repair = if fault.kind == FaultKind::Config {
            "check log.sasl: token_url, client_id, client_secret and scope".to_owned()
        } else {
            format!(
                "start the token endpoint, or check that this machine reaches it: curl {}",
                config.token_url
            )
        };
        Fault { what, repair: fault.repair.or(Some(repair)), ..fault }
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lifetime = answer.expires_in.map_or(LIFETIME, Duration::from_secs).min(LIFETIME_MAX);
    let lifetime_ms = i64::try_from((now + lifetime).as_millis()).unwrap_or(i64::MAX);
    Ok(OAuthToken { token: answer.access_token, principal_name: String::new(), lifetime_ms })
}

/// Gives a client a token that it has not asked us for.
pub(crate) fn give(client: &Client<Context>, token: OAuthToken) -> Result<(), Fault> {
    let text = |text: String| {
        CString::new(text).map_err(|_| {
            Fault::config("the token of log.sasl.token_url holds a zero byte")
                .repair("check log.sasl.token_url: that is no token")
        })
    };
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut why = [0; 512];
    // SAFETY: the client lives through the call, which copies both texts; there are no extensions, and at most
    // `why.len()` bytes are written to `why`, a zero byte at their end.
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: as above.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
    Err(Fault::config(format!("librdkafka doesn't take the token of log.sasl.token_url: {why}"))
        .repair("check log.sasl.token_url, and this machine's clock"))
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
    if status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
    {
        return Err(Fault::retry(format!("it answered {status}")));
    }
    if !status.is_success() {
        return Err(Fault::config(format!("it answered {status}")));
    }
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|e| Fault { source: Some(e), ..Fault::retry("its answer broke off") })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|e| Fault::config("its answer holds no token").from_source(e))
}
