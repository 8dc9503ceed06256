//! An HTTP client over TLS with ring, for the few requests that the log makes on the side: to a schema registry, to a token
//! endpoint. ADR 8 says why it isn't reqwest.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rollcall_model::Fault;

/// The client.
pub type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that trusts what the machine trusts; without `tls` it only speaks plain HTTP.
///
/// # Errors
/// A config fault when the machine trusts nobody.
pub fn client(tls: bool) -> Result<HttpsClient, Fault> {
    let ring = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = if tls {
        builder.with_provider_and_native_roots(ring).map_err(|e| {
            Fault::config("no root certificate is known to check servers with")
                .from_source(e)
                .repair("install the system's root certificates (Debian: ca-certificates)")
        })?
    } else {
        // The connector wants a configuration, which plain HTTP never reads.
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring))
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault::bug("the TLS provider has no protocol version").from_source(e))?;
        builder
            .with_tls_config(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
    };
    Ok(Client::builder(TokioExecutor::new()).build(builder.https_or_http().enable_http1().build()))
}

/// The header of HTTP Basic; never shown.
///
/// # Errors
/// A bug fault: base64 always makes a header.
pub fn basic(user: &str, password: &str) -> Result<HeaderValue, Fault> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|e| Fault::bug("user and password make no header").from_source(e))?;
    value.set_sensitive(true);
    Ok(value)
}
