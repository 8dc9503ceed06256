//! `judge`: rules under test, offline and in bulk, a line of JSON each.
//!
//! ```text
//! stdin ─▶ reader: chunks of whole lines ─▶ worker 0 ─▶ writer ─▶ stdout
//!                  in turn               └▶ worker 1 ─┘ in the same turn
//! ```
//!
//! Chunk `n` goes to worker `n mod workers` and its answers are fetched from there in the same turn, so that answers
//! come in the order of the lines without a buffer that puts them in order. Every queue is bounded, and so is a line.
//! What was read is handed on at once, never kept for a fuller chunk: whoever writes a line and waits gets its answer.

use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use clap::Args;
use rollcall_rules::sql::{Class, Param, Predicate};
use rollcall_rules::{LineError, LineReader, Raised, Raiser};
use serde::{Serialize, Serializer};

use crate::failure::{Failure, Outcome};

/// A longer line is broken, and is not kept.
const LINE_BYTES_MAX: usize = 4 << 20;
/// What is read at once; what is in a chunk beside one long line.
const READ_BYTES: usize = 128 << 10;
/// Chunks that wait for a worker, and answers that wait for the writer, for each worker.
const CHUNKS_WAITING_MAX: usize = 2;
/// A worker's stack: the deepest line and the deepest rules recurse through a part of it.
const STACK_BYTES: usize = 16 << 20;
/// What the names of a predicate's parameters begin with.
const PARAM_PREFIX: &str = "p";

/// Test rules offline: read a context and a segment a line, print the verdict
///
/// Reads JSON lines from standard input: {"context": {"environment": {"key", "name"}, "identity": {"identifier", "key"?,
/// "traits"?}}, "segment": {"key", "name", "rules"}}, in the reference engine's own shape and as its Python reads it. An
/// identity key that is missing or empty is filled in as the reference does: ENVIRONMENT KEY_IDENTIFIER.
///
/// Prints one line for each, in order: {"result": true|false|null, "unsupported": reason|null}. `result` is what the
/// reference answers for this very context, null where it raises; `unsupported` is why Rollcall would not judge anybody by
/// the segment. Beyond the bound of steps, where the reference would go on for years, `result` is null and `unsupported`
/// names the expression and the identity. A line that is broken, or that has no certain answer, gets {"error": what and
/// where}, and the rest goes on. So does a blank line: answers and lines
/// keep step. Answers come at once: the command can be kept open and asked line by line.
///
/// Needs no topology file. Exits with 1 if a line got an error.
#[derive(Debug, Args)]
pub(super) struct Judge {
    /// Print the segment as a ClickHouse condition on IDENTITIES AS i: {"class": "exact"|"superset"|"unsupported",
    /// "reason", "where", "params": {name: text as the HTTP interface takes it}}; the identity may be left out
    #[arg(long)]
    sql: bool,
    /// Print the rule tree with the value found, the operand as it was cast, and the verdict of each condition
    #[arg(long, conflicts_with = "sql")]
    explain: bool,
    /// Worker threads; one for each processor unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// What is asked of each line.
#[derive(Clone, Copy, Debug)]
enum Question {
    Verdict,
    Explanation,
    Predicate,
}

impl Judge {
    /// Answers until the input ends.
    pub(super) fn execute(&self) -> Result<Outcome, Failure> {
        let question = match (self.sql, self.explain) {
            (true, _) => Question::Predicate,
            (false, true) => Question::Explanation,
            (false, false) => Question::Verdict,
        };
        let workers = match self.threads {
            Some(threads) => usize::from(threads),
            None => thread::available_parallelism().map_or(1, NonZero::get),
        };
        let tally = answer_all(question, workers)?;
        match tally.first_broken {
            None => Ok(Outcome::Done),
            Some((line, reason)) => Err(Failure::job(format!(
                "{} of {} lines got an error; the first is line {line}: {reason}",
                tally.broken, tally.lines
            ))),
        }
    }
}

/// The answers to a chunk of lines, or the sum of several.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    broken: u64,
    /// Its number, from 1, and what is wrong with it.
    first_broken: Option<(u64, String)>,
}

struct Answers {
    text: Vec<u8>,
    tally: Tally,
}

fn answer_all(question: Question, workers: usize) -> Result<Tally, Failure> {
    thread::scope(|scope| {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (input, chunks) = sync_channel(CHUNKS_WAITING_MAX);
            let (answers, output) = sync_channel(CHUNKS_WAITING_MAX);
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || work(question, &chunks, &answers))
                .map_err(|error| Failure::job(format!("can't start a thread: {error}")))?;
            inputs.push(input);
            outputs.push(output);
        }
        let writer = scope.spawn(move || write(&outputs, &mut io::stdout().lock()));
        let read = read(&mut io::stdin().lock(), &inputs);
        drop(inputs);
        let written = writer.join().map_err(|_| Failure::job("the thread that writes answers stopped"))?;
        read.map_err(|error| Failure::job(format!("can't read the input: {error}")))?;
        Ok(written?)
    })
}

/// Cuts the input into chunks that end where a line ends, until it ends or nobody takes them any more.
fn read(input: &mut impl Read, workers: &[SyncSender<Vec<u8>>]) -> io::Result<()> {
    let mut turn = workers.iter().cycle();
    let mut send = |chunk: Vec<u8>| turn.next().is_some_and(|worker| worker.send(chunk).is_ok());
    let mut chunk = Vec::new();
    // Whether the rest of a line that is too long is being passed over.
    let mut passing_over = false;
    loop {
        let kept = chunk.len();
        chunk.resize(kept + READ_BYTES, 0);
        let count = match input.read(&mut chunk[kept..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                chunk.truncate(kept);
                continue;
            }
            Err(error) => return Err(error),
        };
        chunk.truncate(kept + count);
        if count == 0 {
            if !chunk.is_empty() {
                send(chunk);
            }
            return Ok(());
        }
        if passing_over {
            let Some(end) = memchr::memchr(b'\n', &chunk[kept..]) else {
                chunk.truncate(kept);
                continue;
            };
            chunk.drain(kept..kept + end);
            passing_over = false;
        }
        match memchr::memrchr(b'\n', &chunk[kept..]) {
            Some(end) => {
                let rest = chunk.split_off(kept + end + 1);
                if !send(std::mem::replace(&mut chunk, rest)) {
                    return Ok(());
                }
            }
            None if chunk.len() > LINE_BYTES_MAX => {
                // One byte too many is left, so that the worker sees it, too.
                chunk.truncate(LINE_BYTES_MAX + 1);
                passing_over = true;
            }
            None => {}
        }
    }
}

/// Answers chunks until there are no more, or nobody takes answers any more.
fn work(question: Question, chunks: &Receiver<Vec<u8>>, answers: &SyncSender<Answers>) {
    let mut reader = LineReader::default();
    for chunk in chunks {
        let mut text = Vec::with_capacity(chunk.len() / 8);
        let mut tally = Tally::default();
        let lines = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines).chain([lines.len()]) {
            let line = &lines[start..end];
            start = end + 1;
            tally.lines += 1;
            if let Err(LineError { reason }) = answer(question, &mut reader, line, &mut text) {
                tally.broken += 1;
                let _ = write_json(&ErrorAnswer { error: &reason }, &mut text);
                tally.first_broken.get_or_insert((tally.lines, reason));
            }
            text.push(b'\n');
        }
        if answers.send(Answers { text, tally }).is_err() {
            return;
        }
    }
}

/// Writes answers in turn as they come.
fn write(workers: &[Receiver<Answers>], output: &mut impl Write) -> io::Result<Tally> {
    let mut total = Tally::default();
    for worker in workers.iter().cycle() {
        let Ok(Answers { text, tally }) = worker.recv() else { break };
        output.write_all(&text)?;
        output.flush()?;
        let before = total.lines;
        if total.first_broken.is_none() {
            total.first_broken = tally.first_broken.map(|(line, reason)| (before + line, reason));
        }
        total.lines += tally.lines;
        total.broken += tally.broken;
    }
    Ok(total)
}

#[derive(Serialize)]
struct ErrorAnswer<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct VerdictAnswer<'a> {
    result: Option<bool>,
    unsupported: Option<&'a str>,
}

#[derive(Serialize)]
struct PredicateAnswer<'a> {
    class: &'static str,
    reason: Option<&'a str>,
    #[serde(rename = "where")]
    condition: Option<&'a str>,
    #[serde(serialize_with = "params_by_name")]
    params: &'a [Param],
}

fn params_by_name<S: Serializer>(params: &[Param], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(params.iter().map(|param| (&param.name, param.value.http_text())))
}

/// Writes the answer to one line, or nothing.
fn answer(
    question: Question,
    reader: &mut LineReader,
    line: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError { reason: format!("longer than {LINE_BYTES_MAX} bytes") });
    }
    if line.iter().all(u8::is_ascii_whitespace) {
        return Err(LineError { reason: "a blank line".to_owned() });
    }
    match question {
        Question::Verdict => {
            let line = reader.judge_line(line)?;
            let context = line.context();
            let (result, beyond) = match line.segment.judge(&context) {
                Ok(result) => (Some(result), None),
                Err(Raised { by: Raiser::Reference, .. }) => (None, None),
                Err(Raised { by: Raiser::Rollcall, reason }) => return Err(LineError { reason }),
                Err(Raised { by: Raiser::Bound, reason }) => {
                    (None, Some(format!("on identity '{}': {reason}", context.identifier)))
                }
            };
            let unsupported = beyond.as_deref().or(line.segment.unsupported());
            write_json(&VerdictAnswer { result, unsupported }, out)
        }
        Question::Explanation => {
            let line = reader.judge_line(line)?;
            write_json(&line.segment.explain(&line.context()), out)
        }
        Question::Predicate => {
            let Predicate { class, condition, params } = reader.predicate_line(line)?.predicate(PARAM_PREFIX);
            let (class, reason, condition) = match &class {
                Class::Exact => ("exact", None, Some(condition.as_str())),
                Class::Superset(reason) => ("superset", Some(reason.as_str()), Some(condition.as_str())),
                Class::Unsupported(reason) => ("unsupported", Some(reason.as_str()), None),
            };
            write_json(&PredicateAnswer { class, reason, condition, params: &params }, out)
        }
    }
}

fn write_json(answer: &impl Serialize, out: &mut Vec<u8>) -> Result<(), LineError> {
    serde_json::to_writer(out, answer)
        .map_err(|error| LineError { reason: format!("the answer can't be written as JSON: {error}") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Gives out one piece at each read.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.first_mut() else { return Ok(0) };
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(count)
        }
    }

    fn chunks(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (sender, chunks) = sync_channel(100);
        read(&mut Pieces(pieces.iter().map(|piece| piece.to_vec()).collect()), &[sender]).unwrap();
        chunks.iter().collect()
    }

    #[test]
    fn chunks_end_where_lines_end_and_wait_for_nothing() {
        assert_eq!(chunks(&[b"a\nb", b"c\nd\n", b"e"]), [&b"a\n"[..], b"bc\nd\n", b"e"]);
        assert!(chunks(&[]).is_empty());
    }

    #[test]
    fn long_lines_are_cut_and_the_rest_goes_on() {
        let long = vec![b'x'; LINE_BYTES_MAX + 3 * READ_BYTES];
        for end in [&b"\nb\n"[..], b"y\nb\n"] {
            let chunks = chunks(&[b"a\n", &long, end]);
            let lines: Vec<usize> = chunks.concat().split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
            assert_eq!(lines, [1, LINE_BYTES_MAX + 1, 1, 0]);
        }
        let cut = chunks(&[&long]);
        assert_eq!(cut.concat().len(), LINE_BYTES_MAX + 1);
    }
}
