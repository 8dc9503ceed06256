//! What a request asks for: URL, headers and form fields → [`Ask`].
//!
//! A server takes the statement from `query=` followed by the body, and parameters from the URL or a multipart form;
//! every key that it doesn't know is a setting. The data of an insert stays in the body and is not read here.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use futures_util::StreamExt as _;

use crate::blocks::Packing;
use crate::exception::Exception;
use crate::ffi::Param;
use crate::statement;

/// The largest statement with its form fields and inline data. Larger data belongs into the body of an insert whose
/// statement is in the URL, which is streamed.
const STATEMENT_BYTES_MAX: usize = 256 << 20;
/// A server's default and bound for `session_timeout`.
const SESSION_SECONDS: u64 = 60;
const SESSION_SECONDS_MAX: u64 = 3600;

/// Which session a request belongs to.
#[derive(Debug, Clone)]
pub(crate) struct SessionAsk {
    pub(crate) id: String,
    pub(crate) timeout_seconds: u64,
    /// `session_check=1`: it must exist already.
    pub(crate) must_exist: bool,
}

/// A request, read.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The statement, with inline data if it has any.
    pub(crate) statement: Vec<u8>,
    /// The format of the answer unless the statement names one.
    pub(crate) format: String,
    pub(crate) database: Option<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) params: Vec<Param>,
    pub(crate) session: Option<SessionAsk>,
    pub(crate) query_id: Option<String>,
    /// The data of an insert comes in compressed blocks.
    pub(crate) decompress: bool,
    pub(crate) packing: Packing,
    /// `wait_end_of_query=1`: nothing is sent before the query has ended well.
    pub(crate) whole: bool,
    /// GET and HEAD may only read.
    pub(crate) read_only: bool,
    /// The body, if it is the data of an insert.
    pub(crate) data: Option<Body>,
}

/// Who asks, as far as the request says.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The login of a request: from its headers, else from its URL.
pub(crate) fn login(parts: &Parts) -> Given {
    if let Some(user) = header(&parts.headers, "x-clickhouse-user") {
        let password = header(&parts.headers, "x-clickhouse-key").map(str::to_owned);
        return Given { user: Some(user.to_owned()), password };
    }
    let basic = header(&parts.headers, "authorization").and_then(|value| value.strip_prefix("Basic "));
    let basic =
        basic.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = basic.as_deref().and_then(|text| text.split_once(':')) {
        return Given { user: Some(user.to_owned()), password: Some(password.to_owned()) };
    }
    let mut login = Given::default();
    for (key, value) in url_pairs(parts) {
        match key.as_ref() {
            "user" => login.user = Some(value.into_owned()),
            "password" => login.password = Some(value.into_owned()),
            _ => {}
        }
    }
    login
}

fn url_pairs(parts: &Parts) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
}

/// Reads a request.
pub(crate) async fn read(request: Request) -> Result<Ask, Exception> {
    let (parts, body) = request.into_parts();
    let mut fields: Vec<Param> =
        url_pairs(&parts).map(|(key, value)| (key.into_owned(), value.into_owned().into_bytes())).collect();
    let boundary =
        header(&parts.headers, header::CONTENT_TYPE.as_str()).and_then(|t| multer::parse_boundary(t).ok());
    let body = if let Some(boundary) = boundary {
        read_form(body, boundary, &mut fields).await?;
        None
    } else {
        let packed = header(&parts.headers, header::CONTENT_ENCODING.as_str());
        if packed.is_some_and(|name| !name.is_empty() && name != "identity") {
            let what = "a body with Content-Encoding is not taken here: send it plain, or in blocks with decompress=1";
            return Err(Exception::new(89, "UNKNOWN_COMPRESSION_METHOD", what));
        }
        Some(body)
    };
    let mut ask = sort_fields(&parts, fields)?;
    let Some(body) = body else { return Ok(ask) };
    let is_insert =
        std::str::from_utf8(&ask.statement).is_ok_and(|sql| statement::insert_head(sql).is_some());
    if is_insert {
        ask.data = Some(body);
    } else {
        read_rest(body, &mut ask).await?;
    }
    Ok(ask)
}

fn too_large() -> Exception {
    let what = format!(
        "the statement is larger than {STATEMENT_BYTES_MAX} bytes; put it into the URL and stream its data as the body"
    );
    Exception::new(307, "TOO_MANY_BYTES", what)
}

fn broken_body(error: impl std::fmt::Display) -> Exception {
    Exception::new(210, "NETWORK_ERROR", format!("the body of the request broke off: {error}"))
}

async fn read_form(body: Body, boundary: String, fields: &mut Vec<Param>) -> Result<(), Exception> {
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let mut left = STATEMENT_BYTES_MAX;
    while let Some(mut field) = form.next_field().await.map_err(broken_body)? {
        let name = field.name().unwrap_or_default().to_owned();
        let mut value = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(broken_body)? {
            left = left.checked_sub(piece.len()).ok_or_else(too_large)?;
            value.extend_from_slice(&piece);
        }
        fields.push((name, value));
    }
    Ok(())
}

/// A body that is not an insert's data is the rest of the statement.
async fn read_rest(body: Body, ask: &mut Ask) -> Result<(), Exception> {
    let mut blocks = crate::blocks::BlockReader::default();
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(broken_body)?;
        let statement = &mut ask.statement;
        let mut add = |data: &[u8]| {
            statement.extend_from_slice(data);
            if statement.len() > STATEMENT_BYTES_MAX { Err(too_large()) } else { Ok(()) }
        };
        if ask.decompress { blocks.push(&piece, add)? } else { add(&piece)? }
    }
    blocks.finish()
}

/// Sorts the fields of a request into what they mean.
fn sort_fields(parts: &Parts, fields: Vec<Param>) -> Result<Ask, Exception> {
    let format = header(&parts.headers, "x-clickhouse-format").unwrap_or("TabSeparated");
    let mut ask = Ask {
        statement: Vec::new(),
        format: format.to_owned(),
        database: header(&parts.headers, "x-clickhouse-database").map(str::to_owned),
        settings: Vec::new(),
        params: Vec::new(),
        session: None,
        query_id: None,
        decompress: false,
        packing: Packing::None,
        whole: false,
        read_only: parts.method == Method::GET || parts.method == Method::HEAD,
        data: None,
    };
    let (mut session, mut timeout_seconds, mut must_exist) = (None, SESSION_SECONDS, false);
    let (mut blocks, mut http_compression) = (false, true);
    for (key, value) in fields {
        if key == "query" {
            ask.statement.extend_from_slice(&value);
            continue;
        }
        if let Some(name) = key.strip_prefix("param_") {
            ask.params.push((name.to_owned(), value));
            continue;
        }
        let value = String::from_utf8(value)
            .map_err(|_| Exception::new(36, "BAD_ARGUMENTS", format!("the value of {key} is not UTF-8")))?;
        match key.as_str() {
            "default_format" => ask.format = value,
            "database" => ask.database = Some(value),
            "session_id" => session = Some(value).filter(|id| !id.is_empty()),
            "session_timeout" => timeout_seconds = session_timeout(&value)?,
            "session_check" => must_exist = value == "1",
            "query_id" => ask.query_id = Some(value).filter(|id| !id.is_empty()),
            "decompress" => ask.decompress = value == "1",
            "compress" => blocks = value == "1",
            "wait_end_of_query" => ask.whole = value == "1",
            // Who asks was checked before; the rest tunes what a server does on the way.
            "user"
            | "password"
            | "quota_key"
            | "buffer_size"
            | "client_protocol_version"
            | "stacktrace"
            | "http_native_compression_disable_checksumming_on_decompress" => {}
            "role" => {
                return Err(Exception::new(511, "UNKNOWN_ROLE", "the embedded ClickHouse has no roles"));
            }
            _ => {
                if key == "enable_http_compression" {
                    http_compression = value == "1" || value == "true";
                }
                ask.settings.push((key, value));
            }
        }
    }
    ask.session = session.map(|id| SessionAsk { id, timeout_seconds, must_exist });
    ask.packing = match header(&parts.headers, header::ACCEPT_ENCODING.as_str()) {
        _ if blocks => Packing::Blocks,
        Some(names) if http_compression && names.split(',').any(|name| name.trim() == "lz4") => {
            Packing::Frame
        }
        _ => Packing::None,
    };
    Ok(ask)
}

fn session_timeout(value: &str) -> Result<u64, Exception> {
    let seconds = value.parse().ok().filter(|seconds| *seconds <= SESSION_SECONDS_MAX);
    seconds.ok_or_else(|| {
        let what = format!("session_timeout must be a number of seconds up to {SESSION_SECONDS_MAX}");
        Exception::new(374, "INVALID_SESSION_TIMEOUT", what)
    })
}
