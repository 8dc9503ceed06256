//! The schema registry over HTTP: the three requests that a codec needs.
//!
//! ```text
//! POST subjects/S            is this schema known there?      ─▶ id, or 404
//! POST subjects/S/versions   then register it                 ─▶ id, or 409 when it doesn't go with the older ones
//! GET  schemas/ids/N         what was this written with?      ─▶ schema
//! ```
//!
//! Asking first means that a worker with the right to read is enough once the schemas are there. ADR 8 says why this
//! is no crate.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rollcall_model::Fault;
use serde::Deserialize;
use url::Url;

use crate::config::RegistryConfig;
use crate::https::{self, HttpsClient};

/// No schema is near it, and no answer may fill the memory.
const BODY_BYTES_MAX: usize = 1 << 20;
/// As much of a registry's own words as a message carries.
const MESSAGE_CHARS_MAX: usize = 400;
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json");

pub(crate) struct Registry {
    http: HttpsClient,
    base: Url,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Fetched {
    schema: String,
    #[serde(rename = "schemaType", default)]
    schema_type: Option<String>,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Registry {
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self, Fault> {
        let base = config.parsed_url()?;
        let http = https::client(base.scheme() == "https").map_err(|fault| Fault {
            what: format!("the schema registry {base} can't be reached: {}", fault.what),
            ..fault
        })?;
        let authorization = config
            .user
            .as_ref()
            .map(|user| https::basic(user, config.password.as_deref().unwrap_or_default()))
            .transpose()?;
        Ok(Self { http, base, authorization, timeout: Duration::from_millis(config.timeout_ms) })
    }

    /// The id of a schema under a subject, registered if it isn't yet.
    pub(crate) async fn id(&self, subject: &str, schema: &str) -> Result<u32, Fault> {
        let body = serde_json::json!({"schema": schema, "schemaType": "AVRO"}).to_string();
        let answer = self.ask(Method::POST, &["subjects", subject], &body).await?;
        // 404 is of the subject or of the schema: either way it is to be registered.
        if answer.status != StatusCode::NOT_FOUND {
            let what = || format!("look up a schema of subject {subject}");
            return Ok(self.read::<Registered>(&answer, &what)?.id);
        }
        let answer = self.ask(Method::POST, &["subjects", subject, "versions"], &body).await?;
        if answer.status == StatusCode::CONFLICT {
            return Err(Fault::refused(format!(
                "the schema registry {} refuses the schema of subject {subject}: it is not compatible with those \
                 registered before{}",
                self.base,
                said(&answer.body)
            ))
            .repair(format!(
                "if another program owns the subject, give Rollcall another log prefix; if it is Rollcall's, of a log \
                 that nobody reads any more, delete it: curl -X DELETE {}subjects/{subject}",
                self.base
            )));
        }
        Ok(self.read::<Registered>(&answer, &|| format!("register the schema of subject {subject}"))?.id)
    }

    /// The Avro schema of an id.
    pub(crate) async fn schema(&self, id: u32) -> Result<String, Fault> {
        let answer = self.ask(Method::GET, &["schemas", "ids", &id.to_string()], "").await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(Fault::refused(format!(
                "the schema registry {} knows no schema {id}, with which a record was written",
                self.base
            ))
            .repair("point log.schema_registry at the registry that the writer used, or restore its _schemas topic"));
        }
        let fetched: Fetched = self.read(&answer, &|| format!("fetch schema {id}"))?;
        match fetched.schema_type.as_deref() {
            None | Some("AVRO") => Ok(fetched.schema),
            Some(_) => Err(Fault::refused(format!(
                "schema {id} of the registry {}, with which a record was written, is none of Avro",
                self.base
            ))
            .repair("find the foreign program that writes to Rollcall's topics, and stop it")),
        }
    }

    async fn ask(&self, method: Method, path: &[&str], body: &str) -> Result<Answer, Fault> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Fault::bug("the schema registry's url takes no path"))?
            .pop_if_empty()
            .extend(path);
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, MEDIA_TYPE)
            .header(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|e| Fault::bug("a request to the schema registry can't be made").from_source(e))?;
        let unreachable = |fault: Fault| {
            fault.repair(format!(
                "start the schema registry, or check that this machine reaches it: curl {}subjects",
                self.base
            ))
        };
        let exchange = async {
            let answer = self.http.request(request).await.map_err(|e| {
                unreachable(
                    Fault::retry(format!("the schema registry {} can't be reached", self.base))
                        .from_source(e),
                )
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await.map_err(|e| {
                let what =
                    format!("the schema registry {} broke off its answer, or it was too long", self.base);
                Fault { source: Some(e), ..Fault::retry(what) }
            })?;
            Ok(Answer { status, body: body.to_bytes() })
        };
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            let ms = self.timeout.as_millis();
            Err(unreachable(Fault::retry(format!(
                "the schema registry {} did not answer in {ms} ms",
                self.base
            ))))
        })
    }

    /// What an answer says, or what its refusal means.
    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        answer: &Answer,
        what: &dyn Fn() -> String,
    ) -> Result<T, Fault> {
        let base = &self.base;
        let (status, said) = (answer.status, said(&answer.body));
        match status.as_u16() {
            200..=299 => serde_json::from_slice(&answer.body).map_err(|e| {
                Fault::config(format!("{base} does not answer as a schema registry does"))
                    .from_source(e)
                    .repair("check the schema registry's url in the topology")
            }),
            401 => {
                Err(Fault::config(format!("the schema registry {base} takes no such user or password{said}"))
                    .repair("check user and password of the schema registry in the topology"))
            }
            403 => Err(Fault::config(format!("the user may not {} at {base}{said}", what()))
                .repair("grant the user read and write on the subjects that begin with the log's prefix")),
            408 | 429 | 500..=599 => {
                Err(Fault::retry(format!("the schema registry {base} could not {}: {status}{said}", what()))
                    .repair("wait: Rollcall asks again; if it stays so, the registry's own log says why"))
            }
            _ => Err(Fault::config(format!("the schema registry {base} did not {}: {status}{said}", what()))
                .repair(format!("check its url, and the mode of the subject: curl {base}mode"))),
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// The registry's own words, cut short: an error of it is `{"error_code": …, "message": …}`.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    match serde_json::from_slice::<Error>(body) {
        Ok(error) => format!(" ({})", error.message.chars().take(MESSAGE_CHARS_MAX).collect::<String>()),
        Err(_) => String::new(),
    }
}
