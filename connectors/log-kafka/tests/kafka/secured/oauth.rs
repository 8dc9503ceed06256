//! Tokens of an OAuth 2 server: a double of its endpoint, and the broker's validator of unsigned tokens.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig, OauthConfig, SaslConfig};
use rollcall_model::{FaultKind, Log, Topic, Workers as _};
use rollcall_test_servers::{Kafka, free_port};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::secured;
use crate::support::{LONG, at, commit_of, config, fails, limit, ok, prefix, read_from, record};

#[derive(Debug, Default)]
struct Endpoint {
    lifetime_s: u64,
    /// What it answers instead.
    broken: Option<StatusCode>,
    given: usize,
    bodies: Vec<String>,
}

type Shared = Arc<Mutex<Endpoint>>;

/// The double; dropping it ends the server.
struct Tokens {
    url: String,
    endpoint: Shared,
    server: JoinHandle<()>,
}

impl Tokens {
    async fn start(lifetime_s: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let endpoint = Shared::new(Mutex::new(Endpoint { lifetime_s, ..Endpoint::default() }));
        let app = Router::new().route("/token", post(answer)).with_state(Arc::clone(&endpoint));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { url, endpoint, server }
    }

    fn breaks(&self, with: Option<StatusCode>) {
        self.endpoint.lock().expect("the endpoint").broken = with;
    }

    fn given(&self) -> usize {
        self.endpoint.lock().expect("the endpoint").given
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(endpoint): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let mut endpoint = endpoint.lock().expect("the endpoint");
    endpoint.bodies.push(body);
    if let Some(status) = endpoint.broken {
        return status.into_response();
    }
    let right = format!("Basic {}", STANDARD.encode("rollcall:s3cret"));
    if headers.get(header::AUTHORIZATION).is_none_or(|given| given.as_bytes() != right.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    endpoint.given += 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // Longer than it is said to live: librdkafka looks whether it is time for a new one once a second.
    let until = now + endpoint.lifetime_s.min(3_600) + 2;
    let claims = json!({"sub": "admin", "iat": now, "exp": until}).to_string();
    let token =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"), URL_SAFE_NO_PAD.encode(claims));
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": endpoint.lifetime_s}))
        .into_response()
}

fn by_token(kafka: &Kafka, url: &str, secret: &str) -> KafkaLogConfig {
    let oauth = OauthConfig {
        token_url: url.to_owned(),
        client_id: "rollcall".to_owned(),
        client_secret: secret.to_owned(),
        scope: Some("kafka all".to_owned()),
    };
    KafkaLogConfig {
        sasl: Some(SaslConfig::OauthBearer(oauth)),
        request_timeout_ms: 5_000,
        ..config(&kafka.brokers_sasl(), &prefix(), 1)
    }
}

pub(super) async fn a_log_is_used_by_token_and_tokens_are_renewed() {
    let kafka = secured();
    let tokens = Tokens::start(3).await;
    let config = by_token(&kafka, &tokens.url, "s3cret");
    let started = Instant::now();
    let log = ok(KafkaLog::open(config.clone()).await);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let mut writer = ok(log.open("source").await).producer;
    let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let mut group = ok(log.join("worker-1", 2).await);
    assert_eq!(ok(group.next().await).len(), 2);
    let given = tokens.given();
    let (mut n, mut read) = (0, 0);
    // Past the life of the first tokens; then the endpoint is away for a while, which nobody takes for a wrong secret.
    let mut away = None;
    loop {
        let records = vec![record(Topic::IdentityChanges, 0, &n.to_string(), None)];
        match writer.commit(commit_of(records)).await {
            Ok(_) => n += 1,
            Err(fault) => {
                assert!(away.is_some(), "{fault}");
                fails::<()>(Err(fault), FaultKind::Retry, &["token"], &["token"]);
                break;
            }
        }
        match consumer.poll(limit(Duration::from_millis(300))).await {
            Ok(fetched) => read += fetched.len(),
            Err(fault) => {
                fails::<()>(Err(fault), FaultKind::Retry, &["token"], &["token"]);
            }
        }
        match away {
            None if tokens.given() > given => {
                tokens.breaks(Some(StatusCode::SERVICE_UNAVAILABLE));
                away = Some(Instant::now());
            }
            None => assert!(started.elapsed() < LONG, "no token was renewed"),
            Some(since) if since.elapsed() > Duration::from_secs(4) => break,
            Some(_) => {}
        }
    }
    tokens.breaks(None);
    // Whoever connects anew comes with a new one, who makes partitions too.
    let until = Instant::now() + LONG;
    let mut again = loop {
        // librdkafka asks again ten seconds after it asked in vain.
        match async { log.join("worker-2", 3).await.map(drop).and(Ok(log.open("source").await?.producer)) }
            .await
        {
            Ok(writer) => break writer,
            Err(fault) => assert!(fault.kind == FaultKind::Retry && Instant::now() < until, "{fault}"),
        }
    };
    ok(again.commit(commit_of(vec![record(Topic::IdentityChanges, 0, "last", None)])).await);
    let all = read_from(&log, Topic::IdentityChanges, 0, 0).await.len();
    // One whose answer was lost may be there, too.
    assert!(all == n + 1 || all == n + 2, "{all}");
    while read < all {
        let fetched = match consumer.poll(limit(LONG)).await {
            Err(fault) if fault.kind == FaultKind::Retry => continue,
            polled => ok(polled),
        };
        assert!(!fetched.is_empty(), "{read} of {all}");
        read += fetched.len();
    }
    assert_eq!(read, all, "none twice");
    let bodies = tokens.endpoint.lock().expect("the endpoint").bodies.clone();
    assert!(bodies.iter().all(|body| body == "grant_type=client_credentials&scope=kafka+all"), "{bodies:?}");
}

pub(super) async fn no_token_is_to_be_had() {
    let kafka = secured();
    let tokens = Tokens::start(300).await;
    let started = Instant::now();
    let wrong = KafkaLog::open(by_token(&kafka, &tokens.url, "wrong")).await;
    fails(wrong, FaultKind::Config, &[&tokens.url, "401"], &["log.sasl", "client_secret"]);
    tokens.breaks(Some(StatusCode::SERVICE_UNAVAILABLE));
    let broken = KafkaLog::open(by_token(&kafka, &tokens.url, "s3cret")).await;
    fails(broken, FaultKind::Retry, &[&tokens.url, "503"], &["token endpoint", &tokens.url]);
    tokens.breaks(Some(StatusCode::NO_CONTENT));
    let empty = KafkaLog::open(by_token(&kafka, &tokens.url, "s3cret")).await;
    fails(empty, FaultKind::Config, &[&tokens.url, "no token"], &["log.sasl"]);
    let nowhere = format!("http://127.0.0.1:{}/token", free_port());
    let down = KafkaLog::open(by_token(&kafka, &nowhere, "s3cret")).await;
    fails(down, FaultKind::Retry, &[&nowhere], &["token endpoint", &nowhere]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    // A token that lives for ever is one of a day.
    tokens.breaks(None);
    tokens.endpoint.lock().expect("the endpoint").lifetime_s = u64::MAX / 4;
    ok(KafkaLog::open(by_token(&kafka, &tokens.url, "s3cret")).await);
}
