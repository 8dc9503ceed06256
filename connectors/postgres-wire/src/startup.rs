//! Start-up and authentication of a replication connection: an open stream in, one ready for commands out.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rollcall_model::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::ConnectConfig;
use crate::fault::{ServerError, io_fault};
use crate::stream::{Attempt, Stream, attempts, open};

/// No message may be longer: Postgres' own limit of a value.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 30;

/// Why a start-up failed: the server's own error is kept apart, because another attempt may follow it.
enum Failure {
    Server(ServerError),
    Fault(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A connection that speaks whole messages.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) stream: Stream,
    pub(crate) buffer: BytesMut,
    pub(crate) config: ConnectConfig,
}

/// A message: its tag and its body.
pub(crate) type Frame = (u8, Bytes);

/// How long the whole message at the start of `buffer` is, tag included; `None` when its header is not there yet.
pub(crate) fn frame_len(buffer: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(header) = buffer.get(1..5) else { return Ok(None) };
    let len = header.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
    if (4..FRAME_BYTES_MAX).contains(&len) {
        Ok(Some(len + 1))
    } else {
        Err(Fault::retry(format!("the Postgres connection sent a message of {len} bytes, which is none")))
    }
}

impl Conversation {
    /// Connects, authenticates and waits for `ReadyForQuery`.
    pub(crate) async fn start(config: &ConnectConfig, parameters: &[(&str, &str)]) -> Result<Self, Fault> {
        let attempts = attempts(config);
        for (n, attempt) in attempts.iter().enumerate() {
            match Self::attempt(config, *attempt, parameters).await {
                Ok(conversation) => return Ok(conversation),
                Err(Failure::Server(error)) if error.is_authorization() && n + 1 < attempts.len() => {}
                Err(Failure::Server(error)) => return Err(error.fault(config)),
                Err(Failure::Fault(fault)) => return Err(fault),
            }
        }
        Err(Fault::bug("no way of connecting was tried"))
    }

    async fn attempt(
        config: &ConnectConfig,
        attempt: Attempt,
        parameters: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let stream = open(config, attempt).await?;
        let mut this = Self { stream, buffer: BytesMut::with_capacity(8 << 10), config: config.clone() };
        let mut all = vec![
            ("user", config.user.as_str()),
            ("database", &config.dbname),
            ("application_name", &config.application_name),
            ("client_encoding", "UTF8"),
        ];
        all.extend_from_slice(parameters);
        let mut out = BytesMut::new();
        frontend::startup_message(all, &mut out).map_err(|error| io_fault(config, error))?;
        this.send(&out).await?;
        this.authenticate().await?;
        loop {
            match this.receive().await? {
                (b'Z', _) => return Ok(this),
                (b'E', body) => return Err(Failure::Server(ServerError::parse(&body))),
                _ => {} // parameters, key data, notices
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| io_fault(&self.config, error))
    }

    /// The next whole message.
    pub(crate) async fn receive(&mut self) -> Result<Frame, Fault> {
        loop {
            if let Some(len) = frame_len(&self.buffer)?.filter(|len| self.buffer.len() >= *len) {
                let mut frame = self.buffer.split_to(len).freeze();
                let tag = frame.first().copied().unwrap_or_default();
                frame.advance(5);
                return Ok((tag, frame));
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(|error| io_fault(&self.config, error))? == 0 {
                return Err(Fault::retry(format!("Postgres ({}) closed the connection", self.config)));
            }
        }
    }

    fn password(&self) -> Result<&str, Fault> {
        self.config.password().ok_or_else(|| {
            Fault::config(format!("Postgres wants a password for {}", self.config))
                .repair("put the password into the url")
        })
    }

    async fn authenticate(&mut self) -> Result<(), Failure> {
        loop {
            let mut body = self.authentication().await?;
            if body.remaining() < 4 {
                return Err(self.odd("a short authentication message").into());
            }
            let mut out = BytesMut::new();
            let made = match body.get_i32() {
                0 => return Ok(()),
                3 => frontend::password_message(self.password()?.as_bytes(), &mut out),
                5 => {
                    let salt = <[u8; 4]>::try_from(&body[..]).map_err(|_| self.odd("a bad salt"))?;
                    let hash = md5_hash(self.config.user.as_bytes(), self.password()?.as_bytes(), salt);
                    frontend::password_message(hash.as_bytes(), &mut out)
                }
                10 => {
                    self.scram(&body).await?;
                    continue;
                }
                other => {
                    return Err(Fault::config(format!(
                        "Postgres asks {} for a kind of authentication that is not supported ({other})",
                        self.config
                    ))
                    .repair("use scram-sha-256, md5, password or trust in pg_hba.conf")
                    .into());
                }
            };
            made.map_err(|error| io_fault(&self.config, error))?;
            self.send(&out).await?;
        }
    }

    async fn authentication(&mut self) -> Result<Bytes, Failure> {
        loop {
            match self.receive().await? {
                (b'R', body) => return Ok(body),
                (b'E', body) => return Err(Failure::Server(ServerError::parse(&body))),
                (b'N' | b'v', _) => {} // notices and version negotiation
                (tag, _) => return Err(self.odd(&format!("message '{}'", char::from(tag))).into()),
            }
        }
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<(), Failure> {
        if !mechanisms.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            return Err(Fault::config(format!("Postgres at {} offers no SCRAM-SHA-256", self.config)).into());
        }
        let mut scram = ScramSha256::new(self.password()?.as_bytes(), ChannelBinding::unsupported());
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)
            .map_err(|error| io_fault(&self.config, error))?;
        self.send(&out).await?;
        let challenge = self.sasl(11).await?;
        scram.update(&challenge).map_err(|error| self.odd("a SCRAM challenge").from_source(error))?;
        out.clear();
        frontend::sasl_response(scram.message(), &mut out).map_err(|error| io_fault(&self.config, error))?;
        self.send(&out).await?;
        let end = self.sasl(12).await?;
        // The server proves that it knows the password too.
        scram.finish(&end).map_err(|error| {
            Fault::config(format!("what answers at {} doesn't know the password itself", self.config))
                .repair("check that the host in the url is the right one")
                .from_source(error)
        })?;
        Ok(())
    }

    async fn sasl(&mut self, wanted: i32) -> Result<Bytes, Failure> {
        let mut body = self.authentication().await?;
        if body.remaining() < 4 || body.get_i32() != wanted {
            return Err(self.odd("a SASL message out of turn").into());
        }
        Ok(body)
    }

    pub(crate) fn odd(&self, what: &str) -> Fault {
        Fault::retry(format!("Postgres at {} sent {what}, which is not expected here", self.config))
    }
}
