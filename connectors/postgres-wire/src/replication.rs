//! A logical replication connection: commands first, then the stream.
//!
//! ```text
//! socket ──▶ reading task ──Chunk (whole messages, large reads)──▶ bounded queue ──▶ whoever decodes
//!                │ a keepalive that wants an answer, a new WAL position
//!                ▼
//!            Standby (received, saved) ──▶ answering task ──▶ socket   on demand and at intervals
//! ```
//!
//! Reading, decoding and answering are three tasks: a decoder that stands still (a full log) stops the reading, by
//! the bounded queue, and never the answering, so the server doesn't take us for dead. What is answered as flushed is
//! only what [`Standby::saved`] was told; the server forgets no WAL beyond it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rollcall_model::{Fault, Lsn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::config::ConnectConfig;
use crate::fault::{ServerError, ident, io_fault, literal};
use crate::sql::within;
use crate::startup::{Conversation, Frame, frame_len};
use crate::stream::Stream;
use crate::text::{TEXT_SETTINGS, TextRow};

/// How much room a read gets: large, so that the server's sender is not woken for every row.
pub const READ_BYTES: usize = 256 << 10;
/// How many chunks wait for the decoder; with [`READ_BYTES`] the bound of what is read ahead.
pub const CHUNKS_AHEAD_MAX: usize = 16;
/// How often the server hears from us when nothing else makes us speak, at most; where its `wal_sender_timeout` is
/// short, four times within that.
pub const STATUS_INTERVAL_MS_MAX: u64 = 5_000;

/// Microseconds from 1970 to 2000, where Postgres' clock starts.
pub const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// What `IDENTIFY_SYSTEM` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemIdentity {
    /// Made by initdb; equal in all copies of a cluster.
    pub system_id: String,
    /// Rises with every promotion and point-in-time recovery.
    pub timeline: u32,
    /// How far the WAL is flushed.
    pub wal_end: Lsn,
}

/// A replication connection that waits for commands.
#[derive(Debug)]
pub struct Replication {
    conversation: Conversation,
}

fn text(row: &TextRow, column: usize) -> String {
    row.get(column)
        .and_then(Option::as_ref)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}

impl Replication {
    /// Connects with `replication=database`.
    ///
    /// # Errors
    /// A [`Fault`] as [`crate::connect`] gives, and one that names `ALTER ROLE … REPLICATION` where that right lacks.
    pub async fn connect(config: &ConnectConfig) -> Result<Self, Fault> {
        let mut parameters = vec![("replication", "database")];
        parameters.extend(TEXT_SETTINGS);
        let conversation = within(config, Box::pin(Conversation::start(config, &parameters))).await?;
        Ok(Self { conversation })
    }

    /// Which cluster this is.
    ///
    /// # Errors
    /// A [`Fault`] when the connection fails or the answer makes no sense.
    pub async fn identify(&mut self) -> Result<SystemIdentity, Fault> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let odd = || Fault::retry("IDENTIFY_SYSTEM gave an answer that can't be read");
        let row = rows.first().ok_or_else(odd)?;
        Ok(SystemIdentity {
            system_id: text(row, 0),
            timeline: text(row, 1).parse().map_err(|_| odd())?,
            wal_end: text(row, 2).parse().map_err(|_| odd())?,
        })
    }

    /// Where each earlier timeline was left: (timeline, its end), oldest first.
    ///
    /// # Errors
    /// A [`Fault`] when the connection fails or the server has no such history.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<(u32, Lsn)>, Fault> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.first().map(|row| text(row, 1)).unwrap_or_default();
        let mut history = Vec::new();
        for line in content.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(id), Some(end)) = (words.next(), words.next()) else { continue };
            if let (Ok(id), Ok(end)) = (id.parse(), end.parse()) {
                history.push((id, end));
            }
        }
        Ok(history)
    }

    /// Runs a simple query or a replication command.
    ///
    /// # Errors
    /// The server's refusal as a [`Fault`] whose source is a [`ServerError`], or a failed connection.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, Fault> {
        let mut results = self.conversation.query(sql).await?;
        Ok(results.pop().unwrap_or_default().rows)
    }

    /// Starts the stream of `slot` at `from` (or where the slot stands, if that is further).
    ///
    /// # Errors
    /// The server's refusal as a [`Fault`] whose source is a [`ServerError`].
    pub async fn start(
        mut self,
        slot: &str,
        from: Lsn,
        options: &[(&str, &str)],
    ) -> Result<ReplicationStream, Fault> {
        let timeout = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let timeout_ms = self.query(timeout).await?.first().map(|row| text(row, 0)).unwrap_or_default();
        let interval_ms = match timeout_ms.parse::<u64>() {
            Ok(timeout_ms) if timeout_ms > 0 => (timeout_ms / 4).clamp(1, STATUS_INTERVAL_MS_MAX),
            _ => STATUS_INTERVAL_MS_MAX,
        };
        let options: Vec<_> =
            options.iter().map(|(name, value)| format!("{} {}", ident(name), literal(value))).collect();
        let command =
            format!("START_REPLICATION SLOT {} LOGICAL {from} ({})", ident(slot), options.join(", "));
        self.conversation.send_query(&command).await?;
        loop {
            match self.conversation.receive().await? {
                (b'W', _) => return Ok(ReplicationStream::spawn(self.conversation, from, interval_ms)),
                (b'E', body) => return Err(ServerError::parse(&body).fault(&self.conversation.config)),
                _ => {} // notices
            }
        }
    }
}

/// What the server is told: how far we have read, and how far everything is saved.
#[derive(Clone, Debug)]
pub struct Standby {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    received: AtomicU64,
    saved: AtomicU64,
    speak: Notify,
}

impl Standby {
    fn new(from: Lsn) -> Self {
        let shared =
            Shared { received: AtomicU64::new(from.0), saved: AtomicU64::new(from.0), speak: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Everything that committed up to here is durable elsewhere: the server may forget it.
    pub fn saved(&self, lsn: Lsn) {
        if self.shared.saved.fetch_max(lsn.0, Ordering::AcqRel) < lsn.0 {
            self.shared.speak.notify_one();
        }
    }

    /// How far the stream was read.
    #[must_use]
    pub fn received(&self) -> Lsn {
        Lsn(self.shared.received.load(Ordering::Acquire))
    }

    fn status(&self) -> BytesMut {
        let saved = self.shared.saved.load(Ordering::Acquire);
        let received = self.shared.received.load(Ordering::Acquire).max(saved);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_US;
        let mut out = BytesMut::with_capacity(39);
        out.put_u8(b'd');
        out.put_u32(4 + 34);
        out.put_u8(b'r');
        for lsn in [received, saved, saved] {
            out.put_u64(lsn); // written, flushed, applied
        }
        out.put_i64(now_us);
        out.put_u8(0); // no answer wanted
        out
    }
}

/// A message of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Output of the plugin.
    Data {
        /// Where in the WAL it stems from.
        start: Lsn,
        /// The message.
        payload: Bytes,
    },
    /// Nothing more up to here.
    Keepalive {
        /// How far the server has decoded and sent.
        end: Lsn,
        /// The server's clock, microseconds since 1970.
        at_us: i64,
    },
}

/// Whole messages, as one read brought them.
#[derive(Clone, Debug)]
pub struct Chunk {
    bytes: Bytes,
    config: Arc<ConnectConfig>,
}

impl Chunk {
    /// The next message; `None` at the end of the chunk.
    ///
    /// # Errors
    /// The server's error, or a message that can't be read.
    pub fn next_event(&mut self) -> Result<Option<Event>, Fault> {
        while !self.bytes.is_empty() {
            let (tag, mut body) = self.frame()?;
            match tag {
                b'd' => match body.try_get_u8() {
                    Ok(b'w') if body.len() >= 24 => {
                        let start = Lsn(body.get_u64());
                        body.advance(16);
                        return Ok(Some(Event::Data { start, payload: body }));
                    }
                    Ok(b'k') if body.len() >= 17 => {
                        let end = Lsn(body.get_u64());
                        let at_us = body.get_i64().saturating_add(POSTGRES_EPOCH_US);
                        return Ok(Some(Event::Keepalive { end, at_us }));
                    }
                    _ => return Err(self.odd("a replication message that can't be read")),
                },
                b'E' => return Err(ServerError::parse(&body).fault(&self.config)),
                b'c' | b'C' => return Err(self.odd("the end of the stream")),
                _ => {} // notices, parameters
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Frame, Fault> {
        let len = frame_len(&self.bytes)?
            .filter(|len| *len <= self.bytes.len())
            .ok_or_else(|| Fault::bug("a chunk ends within a message"))?;
        let mut frame = self.bytes.split_to(len);
        let tag = frame.get_u8();
        frame.advance(4);
        Ok((tag, frame))
    }

    fn odd(&self, what: &str) -> Fault {
        Fault::retry(format!("Postgres at {} sent {what}", self.config))
    }
}

/// The running stream. Dropping it closes the connection.
#[derive(Debug)]
pub struct ReplicationStream {
    chunks: mpsc::Receiver<Result<Chunk, Fault>>,
    standby: Standby,
    tasks: [JoinHandle<()>; 2],
}

impl ReplicationStream {
    fn spawn(conversation: Conversation, from: Lsn, interval_ms: u64) -> Self {
        let Conversation { stream, buffer, config } = conversation;
        let (read, write) = tokio::io::split(stream);
        let (queue, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let standby = Standby::new(from);
        let reader = Reader { read, buffer, config: Arc::new(config), standby: standby.clone() };
        let tasks =
            [tokio::spawn(reader.run(queue)), tokio::spawn(answer(write, standby.clone(), interval_ms))];
        Self { chunks, standby, tasks }
    }

    /// The next messages. Cancel-safe.
    ///
    /// # Errors
    /// A [`Fault`] of kind `Retry` when the connection ends.
    pub async fn next(&mut self) -> Result<Chunk, Fault> {
        self.chunks.recv().await.unwrap_or_else(|| Err(Fault::retry("the replication stream has ended")))
    }

    /// Whether messages wait already.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// What the server is told.
    #[must_use]
    pub fn standby(&self) -> Standby {
        self.standby.clone()
    }
}

impl Drop for ReplicationStream {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Reader {
    read: ReadHalf<Stream>,
    buffer: BytesMut,
    config: Arc<ConnectConfig>,
    standby: Standby,
}

impl Reader {
    async fn run(mut self, queue: mpsc::Sender<Result<Chunk, Fault>>) {
        loop {
            let next = self.chunk().await;
            let ended = next.is_err();
            if queue.send(next).await.is_err() || ended {
                return;
            }
        }
    }

    /// Reads until at least one whole message is there, and takes all whole ones.
    async fn chunk(&mut self) -> Result<Chunk, Fault> {
        loop {
            let whole = self.whole()?;
            if whole > 0 {
                let bytes = self.buffer.split_to(whole).freeze();
                return Ok(Chunk { bytes, config: Arc::clone(&self.config) });
            }
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            let read = self.read.read_buf(&mut self.buffer).await;
            if read.map_err(|error| io_fault(&self.config, error))? == 0 {
                return Err(Fault::retry(format!(
                    "Postgres ({}) closed the replication stream",
                    self.config
                )));
            }
        }
    }

    /// How many bytes of the buffer are whole messages. Notes positions and asked-for answers on the way, before
    /// the decoder gets to them.
    fn whole(&self) -> Result<usize, Fault> {
        let (mut at, mut received, mut wanted) = (0, 0, false);
        while let Some(len) = frame_len(&self.buffer[at..])?.filter(|len| at + len <= self.buffer.len()) {
            let frame = &self.buffer[at..at + len];
            let lsn = |from: usize| frame.get(from..from + 8).map_or(0, |mut bytes| bytes.get_u64());
            match (frame[0], frame.get(5)) {
                (b'd', Some(b'w')) => received = received.max(lsn(6)),
                (b'd', Some(b'k')) => {
                    received = received.max(lsn(6));
                    wanted |= frame.last() == Some(&1);
                }
                _ => {}
            }
            at += len;
        }
        self.standby.shared.received.fetch_max(received, Ordering::AcqRel);
        if wanted {
            self.standby.shared.speak.notify_one();
        }
        Ok(at)
    }
}

async fn answer(mut write: WriteHalf<Stream>, standby: Standby, interval_ms: u64) {
    let mut tick = tokio::time::interval(Duration::from_millis(interval_ms));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = standby.shared.speak.notified() => {}
        }
        let status = standby.status();
        // A failure shows where the stream is read.
        if write.write_all(&status).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
}
