//! C20, C22: the evaluator equals both releases of the reference, on cases of a fresh seed each run.
//!
//! `DIFFERENTIAL_SEED=… DIFFERENTIAL_CASES=…` run others, `DIFFERENTIAL_FIRST=…` from another case on,
//! `DIFFERENTIAL_OPERATOR=REGEX` one operator alone; the seed is printed.

use std::collections::BTreeMap;
use std::ops::Range;

use rollcall_differential::reference::{Answers, BATCH_CASES_MAX, Release, differ};
use rollcall_differential::shrink::shrink;
use rollcall_differential::{Answer, Case, References, Run, generate};
use rollcall_rules::CompiledSegment;

const CASES: u64 = 200_000;
const PRINTED_MAX: usize = 12;

/// Cases, in the reference's words, too.
struct Batch {
    numbers: Range<u64>,
    cases: Vec<Case>,
    lines: Vec<String>,
}

impl Batch {
    fn generate(run: &Run, numbers: Range<u64>) -> Self {
        let cases: Vec<_> =
            numbers.clone().map(|n| generate::case(run.seed, n, run.operator.as_deref())).collect();
        let lines = cases.iter().map(Case::json).collect();
        Self { numbers, cases, lines }
    }

    /// What the evaluator says, and whether its segments are known to be unsupported.
    fn judged(&self) -> Vec<(Answer, bool)> {
        let judged = |case: &Case| {
            let segment = CompiledSegment::compile(&case.segment());
            let answer = match segment.judge(&case.context()) {
                Ok(verdict) => Answer::Is(verdict),
                Err(raised) => Answer::Raises(raised.reason),
            };
            (answer, segment.unsupported().is_some())
        };
        self.cases.iter().map(judged).collect()
    }
}

#[test]
fn c22_the_evaluator_equals_the_reference() {
    let run = Run::from_env("DIFFERENTIAL_CASES", CASES);
    eprintln!("references {} and {}", Release::Pinned.version(), Release::Newest.version());
    assert_ne!(Release::Pinned.version(), Release::Newest.version());
    let mut references = References::start();
    let mut tally = Tally::default();
    let mut ranges = run.batches(BATCH_CASES_MAX as u64);
    let mut next = ranges.next().map(|numbers| Batch::generate(&run, numbers));
    while let Some(batch) = next {
        // While both references are busy with one batch, the evaluator judges it and the next one is made.
        let (answers, (judged, following)) = references.answers(&batch.lines, || {
            (batch.judged(), ranges.next().map(|numbers| Batch::generate(&run, numbers)))
        });
        compare(&run, batch, &judged, &answers, &mut references, &mut tally);
        next = following;
    }
    eprintln!("{tally:#?}\n{}", run.speed(run.cases(), "cases compared with each reference"));
    assert_eq!(tally.mismatches, 0, "evaluator and references differ; seed {}", run.seed);
}

fn compare(
    run: &Run,
    batch: Batch,
    judged: &[(Answer, bool)],
    answers: &Answers,
    references: &mut References,
    tally: &mut Tally,
) {
    let said = judged.iter().zip(answers.pinned.iter().zip(&answers.newest));
    for ((number, case), ((judged, is_unsupported), (pinned, newest))) in
        batch.numbers.zip(batch.cases).zip(said)
    {
        tally.count(pinned, judged, *is_unsupported);
        if matches!(judged, Answer::Raises(_)) && !is_unsupported {
            assert!(
                judged.is_dynamic(),
                "case {number} of seed {} raises, and that isn't static: {judged:?}",
                run.seed
            );
        }
        if !differ(judged, pinned, newest) {
            continue;
        }
        tally.mismatches += 1;
        if tally.mismatches <= PRINTED_MAX {
            let smallest = shrink(case, |candidates| references.first_difference(candidates));
            let (pinned, newest) = references.answer(&smallest);
            eprintln!(
                "DIFFERENTIAL_SEED={} DIFFERENTIAL_FIRST={number} DIFFERENTIAL_CASES=1: evaluator {:?}, pinned \
                 reference {pinned:?}, newest {newest:?}\n  {}",
                run.seed,
                smallest.judged(),
                smallest.json()
            );
        }
    }
}

#[test]
fn explanations_say_what_verdicts_say() {
    let seed = Run::from_env("DIFFERENTIAL_CASES", CASES).seed;
    for number in 0..5_000 {
        let case = generate::case(seed, number, None);
        let segment = CompiledSegment::compile(&case.segment());
        let explanation = segment.explain(&case.context());
        let verdict =
            explanation.rules.iter().try_fold(true, |all, rule| if all { rule.verdict } else { Some(false) });
        let judged = segment.judge(&case.context()).ok();
        assert_eq!(explanation.verdict, judged, "case {number} of seed {seed}");
        if !case.rules.is_empty() {
            assert_eq!(verdict, judged, "case {number} of seed {seed}: {}", case.json());
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    mismatches: usize,
    members: usize,
    others: usize,
    beyond_the_bound: usize,
    unsupported: usize,
    /// By the reference's exception.
    raised: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, answer: &Answer, judged: &Answer, is_unsupported: bool) {
        match answer {
            Answer::Is(true) => self.members += 1,
            Answer::Is(false) => self.others += 1,
            Answer::Raises(exception) => *self.raised.entry(exception.clone()).or_default() += 1,
        }
        self.beyond_the_bound += usize::from(judged.is_beyond_the_bound());
        self.unsupported += usize::from(is_unsupported);
    }
}
