//! One request on its connection: settings, then the statement, then its rows or its data.
//!
//! The engine's calls block, so they run on a blocking thread; bounded channels join it to the request:
//!
//! ```text
//! request body ─▶ Part (8 pieces) ─▶ blocking thread: unpack, append ─▶ engine
//! reply body  ◀─ Event (4 pieces) ◀─ blocking thread: fetch, join    ◀─ engine
//! ```
//!
//! An insert counts only after its explicit end: a body that breaks off, or a handler that goes away, closes the channel
//! without [`Part::End`] and the insert is cancelled. A reply counts only after [`Event::Done`].

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::blocks::BlockReader;
use crate::engine::Lease;
use crate::exception::Exception;
use crate::ffi::{Answer, Connection, Param};
use crate::request::Ask;
use crate::seam::{Joiner, Seam};
use crate::statement::{self, InsertHead, identifier, quoted};

/// A piece of an insert's data.
#[derive(Debug)]
pub(crate) enum Part {
    /// Some of it.
    Data(Bytes),
    /// All of it came.
    End,
}

/// A piece of a reply.
#[derive(Debug)]
pub(crate) enum Event {
    /// What it took, where that is known before the first row is sent.
    Summary(Summary),
    /// Some of the result.
    Rows(Vec<u8>),
    /// It failed; rows may have been sent.
    Failed(Exception),
    /// All of the result was sent.
    Done,
}

/// The figures of a query.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) read_rows: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_rows: u64,
    pub(crate) written_bytes: u64,
}

impl Summary {
    fn of(answer: &Answer) -> Self {
        Self {
            read_rows: answer.rows_read,
            read_bytes: answer.bytes_read,
            written_rows: answer.rows_written,
            written_bytes: answer.bytes_written,
        }
    }
}

/// The reader of the reply went away: stop.
struct Gone;

/// Runs a request and sends what comes of it. Blocks.
pub(crate) fn run(mut lease: Lease, ask: &Ask, data: Option<Receiver<Part>>, events: &Sender<Event>) {
    let is_session = lease.is_session();
    let outcome = prepare(&mut lease, ask, is_session).and_then(|restore| {
        let outcome = execute(&mut lease, ask, data, events);
        let restored = restore.iter().try_for_each(|statement| command(&mut lease, statement));
        outcome.and_then(|sent| restored.map(|()| sent))
    });
    // The connection is free again before the reply says that the query is over: a client's next request to its
    // session must not find it locked.
    drop(lease);
    match outcome {
        Ok(Ok(())) => drop(events.blocking_send(Event::Done)),
        Ok(Err(Gone)) => {}
        Err(exception) => drop(events.blocking_send(Event::Failed(exception))),
    }
}

fn command(connection: &mut Connection, statement: &str) -> Result<(), Exception> {
    connection.query(statement.as_bytes(), "Null", &[]).map(drop)
}

/// Sets what a request asks for; gives the statements that undo it where the connection lives on.
fn prepare(connection: &mut Connection, ask: &Ask, is_session: bool) -> Result<Vec<String>, Exception> {
    let mut restore = Vec::new();
    if let Some(database) = &ask.database {
        if is_session {
            restore.push(format!("USE {}", identifier(&value_of(connection, "currentDatabase()")?)));
        }
        command(connection, &format!("USE {}", identifier(database)))?;
    }
    for (name, value) in &ask.settings {
        let is_name =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') && !name.is_empty();
        if !is_name {
            return Err(Exception::new(115, "UNKNOWN_SETTING", format!("Unknown setting {}", quoted(name))));
        }
        if is_session {
            let before = value_of(connection, &format!("toString(getSetting({}))", quoted(name)))?;
            restore.push(format!("SET {name} = {}", quoted(&before)));
        }
        command(connection, &format!("SET {name} = {}", quoted(value)))?;
    }
    Ok(restore)
}

fn value_of(connection: &mut Connection, expression: &str) -> Result<String, Exception> {
    let answer = connection.query(format!("SELECT {expression}").as_bytes(), "RawBLOB", &[])?;
    String::from_utf8(answer.bytes).map_err(|_| Exception::engine_said_nothing())
}

fn execute(
    connection: &mut Connection,
    ask: &Ask,
    data: Option<Receiver<Part>>,
    events: &Sender<Event>,
) -> Result<Result<(), Gone>, Exception> {
    let text = String::from_utf8_lossy(&ask.statement);
    if let Some(data) = data
        && let Some(head) = statement::insert_head(&text)
    {
        if ask.read_only {
            return Err(only_reads());
        }
        let answer = insert(connection, &head, &ask.params, ask.decompress, data)?;
        return Ok(send(events, Event::Summary(Summary::of(&answer))));
    }
    if ask.statement.trim_ascii().is_empty() {
        return Err(Exception::new(62, "SYNTAX_ERROR", "Empty query"));
    }
    let is_insert = statement::first_word(&text).eq_ignore_ascii_case("INSERT");
    // An engine that can't tell leaves the checks to its parser.
    let class = connection.classify(&ask.statement);
    if class.is_some_and(|class| class.statements > 1) && !is_insert {
        let what = "Syntax error (Multi-statements are not allowed)";
        return Err(Exception::new(62, "SYNTAX_ERROR", what));
    }
    let reads = class.is_some_and(|class| class.read_only);
    if ask.read_only && !reads {
        return Err(only_reads());
    }
    let format = statement::asked_format(&text).unwrap_or(&ask.format);
    let streams = reads && !ask.whole && is_plain_select(&text, ask);
    match Seam::of(format).filter(|_| streams) {
        Some(seam) => stream(connection, ask, seam, events),
        None => {
            let answer = connection.query(&ask.statement, &ask.format, &ask.params)?;
            let sent = send(events, Event::Summary(Summary::of(&answer)));
            Ok(sent.and_then(|()| send(events, Event::Rows(answer.bytes))))
        }
    }
}

fn only_reads() -> Exception {
    let what = "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. \
                You should use method POST for modifying queries";
    Exception::new(164, "READONLY", what)
}

/// A SELECT whose pieces can be put together: totals come apart from the rows, and arrays of rows have an end.
fn is_plain_select(text: &str, ask: &Ask) -> bool {
    let select =
        ["SELECT", "WITH", "FROM"].iter().any(|word| statement::first_word(text).eq_ignore_ascii_case(word));
    let apart = ["extremes", "output_format_json_array_of_rows"];
    let asked = |word: &str| text.contains(word) || ask.settings.iter().any(|(name, _)| name == word);
    select && !text.to_ascii_uppercase().contains("TOTALS") && !apart.iter().any(|word| asked(word))
}

fn send(events: &Sender<Event>, event: Event) -> Result<(), Gone> {
    events.blocking_send(event).map_err(|_| Gone)
}

/// Sends a SELECT's pieces as they come. Memory holds a few pieces, however large the result.
fn stream(
    connection: &mut Connection,
    ask: &Ask,
    seam: Seam,
    events: &Sender<Event>,
) -> Result<Result<(), Gone>, Exception> {
    let mut rows = connection.rows(&ask.statement, &ask.format, &ask.params)?;
    let mut joiner = Joiner::new(seam);
    while let Some(piece) = rows.next()? {
        let piece = joiner.join(piece).ok_or_else(|| {
            Exception::new(
                1002,
                "UNKNOWN_EXCEPTION",
                "pieces of the result do not fit; ask again with wait_end_of_query=1",
            )
        })?;
        if send(events, Event::Rows(piece)).is_err() {
            return Ok(Err(Gone));
        }
    }
    Ok(send(events, Event::Rows(joiner.end().to_vec())))
}

fn insert(
    connection: &mut Connection,
    head: &InsertHead<'_>,
    params: &[Param],
    decompress: bool,
    mut data: Receiver<Part>,
) -> Result<Answer, Exception> {
    let mut insert = connection.insert(head.head.as_bytes(), head.format, params)?;
    let mut blocks = BlockReader::default();
    loop {
        match data.blocking_recv() {
            Some(Part::Data(piece)) if decompress => blocks.push(&piece, |data| insert.append(data))?,
            Some(Part::Data(piece)) => insert.append(&piece)?,
            Some(Part::End) => break,
            None => {
                return Err(Exception::new(
                    210,
                    "NETWORK_ERROR",
                    "the data of the insert broke off; nothing of it is kept",
                ));
            }
        }
    }
    blocks.finish()?;
    insert.done()
}
