//! Nanoseconds per line of `rollcall judge`, by what is done with it:
//! `cargo run --release -p rollcall-rules --example line_speed < lines.jsonl`.

use std::hint::black_box;
use std::io::Read;
use std::time::Instant;

use rollcall_rules::LineReader;

const ROUNDS: u32 = 5;

fn main() -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    measure("UTF-8", &lines, |line| black_box(std::str::from_utf8(line)).is_ok());
    let mut reader = LineReader::default();
    measure("segment", &lines, |line| black_box(reader.predicate_line(line)).is_ok());
    measure("context", &lines, |line| black_box(reader.judge_line(line)).is_ok());
    measure("judge", &lines, |line| {
        reader.judge_line(line).is_ok_and(|line| black_box(line.segment.judge(&line.context())).is_ok())
    });
    Ok(())
}

/// Steps add up: each does what the one before it did, and more.
fn measure(what: &str, lines: &[&[u8]], mut each: impl FnMut(&[u8]) -> bool) {
    let mut best = u128::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let answered = lines.iter().filter(|line| each(line)).count();
        best = best.min(start.elapsed().as_nanos());
        assert_eq!(answered, lines.len(), "every line is answered");
    }
    println!("{what:10} {:6} ns", best / lines.len() as u128);
}
