//! The reference, as a process that answers line by line.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::case::{Answer, Case};

/// Cases asked at once. Their answers fit into a pipe, so that neither side waits for the other.
pub const BATCH_CASES_MAX: usize = 2_000;

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

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference.py")
}

impl Reference {
    /// Starts it.
    ///
    /// # Panics
    /// If Python or its package is missing; `make servers` brings both.
    #[must_use]
    pub fn start() -> Self {
        let mut process = Command::new(python())
            .arg(script())
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reference's Python starts; `make servers` brings it");
        let input = BufWriter::new(process.stdin.take().expect("a pipe"));
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    /// Its version, `10.2.0`.
    ///
    /// # Panics
    /// As [`Reference::start`].
    #[must_use]
    pub fn version() -> String {
        let output = Command::new(python())
            .arg(script())
            .arg("--version")
            .output()
            .expect("`make servers` brings Python");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Its answers, in order.
    ///
    /// # Panics
    /// If it stops.
    pub fn answers(&mut self, cases: &[Case]) -> Vec<Answer> {
        cases.chunks(BATCH_CASES_MAX).flat_map(|batch| self.batch(batch)).collect()
    }

    fn batch(&mut self, cases: &[Case]) -> Vec<Answer> {
        for case in cases {
            writeln!(self.input, "{}", case.json()).expect("the reference reads");
        }
        writeln!(self.input).and_then(|()| self.input.flush()).expect("the reference reads");
        cases.iter().map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the reference answers");
        match line.trim_end() {
            "T" => Answer::Is(true),
            "F" => Answer::Is(false),
            other => Answer::Raises(
                other
                    .strip_prefix("R ")
                    .unwrap_or_else(|| panic!("the reference stopped: {other:?}"))
                    .to_owned(),
            ),
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
