//! Simple queries whose values come as text: SQL in, rows as Postgres writes them out, each column with its type.
//!
//! The values look exactly as a logical replication stream brings them, so that one decoder reads both.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use rollcall_model::Fault;

use crate::config::ConnectConfig;
use crate::fault::{ServerError, io_fault};
use crate::sql::within;
use crate::startup::Conversation;

/// Settings under which a value has one text only.
pub(crate) const TEXT_SETTINGS: [(&str, &str); 3] =
    [("datestyle", "ISO, MDY"), ("timezone", "UTC"), ("extra_float_digits", "3")];

/// A row of a simple query: text or NULL.
pub type TextRow = Vec<Option<Bytes>>;

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextColumn {
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
}

/// What one statement gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TextResult {
    /// Its columns.
    pub columns: Vec<TextColumn>,
    /// Its rows.
    pub rows: Vec<TextRow>,
}

/// A connection for simple queries.
#[derive(Debug)]
pub struct TextClient {
    conversation: Conversation,
}

impl TextClient {
    /// Connects.
    ///
    /// # Errors
    /// A [`Fault`] as [`crate::connect`] gives.
    pub async fn connect(config: &ConnectConfig) -> Result<Self, Fault> {
        let conversation = within(config, Box::pin(Conversation::start(config, &TEXT_SETTINGS))).await?;
        Ok(Self { conversation })
    }

    /// Runs one or more statements in one message: a result for each that gives rows.
    ///
    /// # Errors
    /// The server's refusal as a [`Fault`] whose source is a [`ServerError`], or a failed connection.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextResult>, Fault> {
        self.conversation.query(sql).await
    }
}

impl Conversation {
    pub(crate) async fn send_query(&mut self, sql: &str) -> Result<(), Fault> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|error| io_fault(&self.config, error))?;
        self.send(&out).await
    }

    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<TextResult>, Fault> {
        self.send_query(sql).await?;
        let (mut results, mut failed) = (Vec::<TextResult>::new(), None);
        loop {
            match self.receive().await? {
                (b'T', body) => {
                    let columns = columns(body).ok_or_else(|| self.odd("a bad row description"))?;
                    results.push(TextResult { columns, rows: Vec::new() });
                }
                (b'D', body) => {
                    let row = data_row(body).ok_or_else(|| self.odd("a bad row"))?;
                    match results.last_mut() {
                        Some(result) => result.rows.push(row),
                        None => return Err(self.odd("a row without its description")),
                    }
                }
                (b'E', body) => failed = Some(ServerError::parse(&body)),
                (b'Z', _) => break,
                _ => {} // completions, notices
            }
        }
        match failed {
            Some(error) => Err(error.fault(&self.config)),
            None => Ok(results),
        }
    }
}

fn columns(mut body: Bytes) -> Option<Vec<TextColumn>> {
    let count = body.try_get_u16().ok()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let end = body.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(&body.split_to(end)).into_owned();
        // zero byte, table and column, type, its size, modifier, format
        if body.len() < 1 + 6 + 4 + 8 {
            return None;
        }
        body.advance(1 + 6);
        let type_oid = body.get_u32();
        body.advance(8);
        columns.push(TextColumn { name, type_oid });
    }
    Some(columns)
}

fn data_row(mut body: Bytes) -> Option<TextRow> {
    let columns = body.try_get_u16().ok()?;
    let mut row = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        let len = body.try_get_i32().ok()?;
        match usize::try_from(len) {
            Ok(len) if len <= body.len() => row.push(Some(body.split_to(len))),
            Ok(_) => return None,
            Err(_) => row.push(None),
        }
    }
    Some(row)
}
