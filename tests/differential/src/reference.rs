//! The references, as processes that answer line by line.
//!
//! ```text
//!            ┌─▶ thread ─▶ reference.py, the pinned release ─┐
//! batch ─────┼─▶ thread ─▶ reference.py, the newest release ─┼─▶ [Answer] of each
//!            └─▶ meanwhile, whatever the caller does         ┘
//! ```

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use crate::case::{Answer, Case};

/// Cases asked at once: enough that waiting for the slower of two processes costs little.
pub const BATCH_CASES_MAX: usize = 2_000;

/// Which release of the reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The one that the platform pins: what it says is right.
    Pinned,
    /// The newest one.
    Newest,
}

/// A running reference.
#[derive(Debug)]
pub struct Reference {
    process: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The Python that has the reference: `$ROLLCALL_REFERENCE_PYTHON`, or the servers' cache.
fn python() -> PathBuf {
    std::env::var_os("ROLLCALL_REFERENCE_PYTHON")
        .filter(|path| !path.is_empty())
        .map_or_else(rollcall_test_servers::python, PathBuf::from)
}

impl Release {
    fn command(self) -> Command {
        let mut command = Command::new(python());
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference.py"));
        command.env("PYTHONIOENCODING", "utf-8");
        match self {
            Self::Pinned => command.env_remove("PYTHONPATH"),
            Self::Newest => command.env("PYTHONPATH", rollcall_test_servers::newest_reference()),
        };
        command
    }

    /// Its version, such as `10.2.0`.
    ///
    /// # Panics
    /// As [`Reference::start`].
    #[must_use]
    pub fn version(self) -> String {
        let output = self.command().arg("--version").output().expect("`make servers` brings Python");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Reference {
    /// Starts it.
    ///
    /// # Panics
    /// If Python or its package is missing; `make servers` brings both.
    #[must_use]
    pub fn start(release: Release) -> Self {
        Self::start_with(release, None)
    }

    /// Starts it on raw lines, which it reads as Python does by default.
    ///
    /// # Panics
    /// As [`Reference::start`].
    #[must_use]
    pub fn start_raw(release: Release) -> Self {
        Self::start_with(release, Some("--raw"))
    }

    fn start_with(release: Release, argument: Option<&str>) -> Self {
        let mut process = release
            .command()
            .args(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reference's Python starts; `make servers` brings it");
        let input = BufWriter::new(process.stdin.take().expect("a pipe"));
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    /// Its answers, in order. It writes none before it has read all, so neither side waits for the other.
    ///
    /// # Panics
    /// If it stops.
    pub fn answers(&mut self, batch: &[String]) -> Vec<Answer> {
        let answers = self.raw_answers(batch).into_iter();
        answers.map(|answer| answer.expect("the harness writes JSON")).collect()
    }

    /// Its answers to raw lines, in order; `None` where it can't read one.
    ///
    /// # Panics
    /// If it stops.
    pub fn raw_answers(&mut self, batch: &[String]) -> Vec<Option<Answer>> {
        for line in batch {
            writeln!(self.input, "{line}").expect("the reference reads");
        }
        writeln!(self.input).and_then(|()| self.input.flush()).expect("the reference reads");
        batch.iter().map(|_| self.raw_answer()).collect()
    }

    fn raw_answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the reference answers");
        Some(match line.trim_end() {
            "T" => Answer::Is(true),
            "F" => Answer::Is(false),
            "E" => return None,
            other => Answer::Raises(
                other
                    .strip_prefix("R ")
                    .unwrap_or_else(|| panic!("the reference stopped: {other:?}"))
                    .to_owned(),
            ),
        })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both releases, running.
#[derive(Debug)]
pub struct References {
    pinned: Reference,
    newest: Reference,
}

/// What both releases say of a batch, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// The pinned release.
    pub pinned: Vec<Answer>,
    /// The newest release.
    pub newest: Vec<Answer>,
}

impl References {
    /// Starts both.
    ///
    /// # Panics
    /// As [`Reference::start`].
    #[must_use]
    pub fn start() -> Self {
        Self { pinned: Reference::start(Release::Pinned), newest: Reference::start(Release::Newest) }
    }

    /// Asks both at once, and does something else meanwhile. The batch is in the reference's JSON ([`Case::json`]).
    ///
    /// # Panics
    /// If one stops.
    pub fn answers<T>(&mut self, batch: &[String], meanwhile: impl FnOnce() -> T) -> (Answers, T) {
        let (pinned, newest) = (&mut self.pinned, &mut self.newest);
        thread::scope(|scope| {
            let pinned = scope.spawn(|| pinned.answers(batch));
            let newest = scope.spawn(|| newest.answers(batch));
            let done = meanwhile();
            let pinned = pinned.join().expect("the pinned reference answers");
            (Answers { pinned, newest: newest.join().expect("the newest reference answers") }, done)
        })
    }

    /// What both say of one case.
    ///
    /// # Panics
    /// If one stops.
    pub fn answer(&mut self, case: &Case) -> (Answer, Answer) {
        let (mut answers, ()) = self.answers(&[case.json()], || ());
        (answers.pinned.remove(0), answers.newest.remove(0))
    }

    /// The first of some cases on which the evaluator or the newest release differs from the pinned one.
    ///
    /// # Panics
    /// If one stops.
    pub fn first_difference(&mut self, cases: &[Case]) -> Option<usize> {
        let lines: Vec<String> = cases.iter().map(Case::json).collect();
        let (answers, judged) = self.answers(&lines, || cases.iter().map(Case::judged).collect::<Vec<_>>());
        let all = judged.iter().zip(&answers.pinned).zip(&answers.newest);
        all.into_iter().position(|((judged, pinned), newest)| differ(judged, pinned, newest))
    }
}

/// Whether the evaluator or the newest release differs from the pinned one, beyond what the evaluator's bound explains.
#[must_use]
pub fn differ(judged: &Answer, pinned: &Answer, newest: &Answer) -> bool {
    !newest.agrees(pinned) || !judged.agrees(pinned) && !judged.is_beyond_the_bound()
}

/// What the reference's Python knows of every character (`unicode.py`).
#[derive(Debug, serde::Deserialize)]
pub struct UnicodeTables {
    /// Accepted by `\w`.
    pub word: String,
    /// Accepted by `\d`.
    pub digit: String,
    /// Accepted by `\s`.
    pub space: String,
    /// Characters with a case, each with its lower case.
    pub cased: Vec<(String, String)>,
    /// Texts that hold every character between them, each with its `repr`.
    pub reprs: Vec<(String, String)>,
    /// Accepted in the middle of a group's name.
    pub names: String,
}

/// Asks the reference's Python.
///
/// # Panics
/// As [`Reference::start`].
#[must_use]
pub fn unicode_tables() -> UnicodeTables {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("unicode.py");
    let output = Command::new(python()).arg(script).output().expect("`make servers` brings Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("unicode.py prints one object")
}
