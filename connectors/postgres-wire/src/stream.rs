//! Address and `sslmode` in, an open byte stream out: one path for SQL and for replication.
//!
//! ```text
//! TcpStream | UnixStream ──SSLRequest──▶ 'S' ──rustls handshake──▶ Stream::Tls
//!                                        'N' ──────────────────▶ Stream::Tcp, where sslmode allows it
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rollcall_model::Fault;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{ConnectConfig, SslMode};
use crate::fault::io_fault;
use crate::tls::client_config;

/// An open connection, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// One way of connecting that `sslmode` allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// Without TLS.
    Plain,
    /// With TLS, or plain where the server has none.
    TlsIfOffered,
    /// With TLS only.
    Tls,
}

/// The ways to try in turn: the second one when the server's pg_hba.conf refuses the first.
pub(crate) fn attempts(config: &ConnectConfig) -> &'static [Attempt] {
    if config.host.starts_with('/') {
        return &[Attempt::Plain];
    }
    match config.sslmode {
        SslMode::Disable => &[Attempt::Plain],
        SslMode::Allow => &[Attempt::Plain, Attempt::Tls],
        SslMode::Prefer => &[Attempt::TlsIfOffered, Attempt::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Attempt::Tls],
    }
}

/// Opens the byte stream.
pub(crate) async fn open(config: &ConnectConfig, attempt: Attempt) -> Result<Stream, Fault> {
    if config.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", config.host, config.port);
        return UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| io_fault(config, error));
    }
    let mut tcp = TcpStream::connect((config.host.as_str(), config.port))
        .await
        .map_err(|error| io_fault(config, error))?;
    tcp.set_nodelay(true).map_err(|error| io_fault(config, error))?;
    if attempt == Attempt::Plain {
        return Ok(Stream::Tcp(tcp));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(|error| io_fault(config, error))?;
    let answer = tcp.read_u8().await.map_err(|error| io_fault(config, error))?;
    match (answer, attempt) {
        (b'S', _) => handshake(config, tcp).await,
        (b'N', Attempt::TlsIfOffered) => Ok(Stream::Tcp(tcp)),
        (b'N', _) => Err(Fault::config(format!("Postgres at {config} offers no TLS, which sslmode asks for"))
            .repair("ALTER SYSTEM SET ssl = on (with ssl_cert_file and ssl_key_file set), then SELECT pg_reload_conf(); or sslmode=prefer in the url")),
        _ => Err(Fault::config(format!("what answers at {config} is not Postgres"))
            .repair("check the host and port in the url")),
    }
}

async fn handshake(config: &ConnectConfig, tcp: TcpStream) -> Result<Stream, Fault> {
    let name = ServerName::try_from(config.host.clone()).map_err(|error| {
        Fault::config(format!("'{}' is no host name for TLS", config.host)).from_source(error)
    })?;
    let connector = TlsConnector::from(client_config(config)?);
    match connector.connect(name, tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Err(Fault::config(format!("the TLS certificate of {config} is not accepted"))
                .repair("give sslrootcert=FILE with the authority that signed it and the host it names, or choose a weaker sslmode in the url")
                .from_source(error))
        }
        Err(error) => Err(io_fault(config, error)),
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
