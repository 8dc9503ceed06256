//! C20, C22: the evaluator equals the reference, on cases of a fresh seed each run.
//!
//! `DIFFERENTIAL_SEED=… DIFFERENTIAL_CASES=…` run others, `DIFFERENTIAL_OPERATOR=REGEX` one operator alone; the seed
//! is printed.

use std::collections::BTreeMap;

use rollcall_differential::reference::BATCH_CASES_MAX;
use rollcall_differential::{Answer, Reference, generate, shrink};
use rollcall_rules::CompiledSegment;

const CASES: u64 = 200_000;
const PRINTED_MAX: usize = 12;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not '{text}'")))
}

/// What only shows on some identity, and so isn't static (`Raised` lists it).
fn is_dynamic(reason: &str) -> bool {
    ["more than 4300 digits", "too large for a float", "needs more than"]
        .iter()
        .any(|part| reason.contains(part))
}

#[test]
fn c22_the_evaluator_equals_the_reference() {
    let seed = from_env("DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
    let cases = from_env("DIFFERENTIAL_CASES").unwrap_or(CASES);
    let only = std::env::var("DIFFERENTIAL_OPERATOR").ok();
    eprintln!("reference {}, DIFFERENTIAL_SEED={seed} DIFFERENTIAL_CASES={cases}", Reference::version());
    let mut reference = Reference::start();
    let mut tally = Tally::default();
    let mut start = 0;
    while start < cases {
        let end = (start + BATCH_CASES_MAX as u64).min(cases);
        let batch: Vec<_> =
            (start..end).map(|number| generate::case(seed, number, only.as_deref())).collect();
        let answers = reference.answers(&batch);
        for (number, (case, answer)) in (start..end).zip(batch.into_iter().zip(answers)) {
            let judged = case.judged();
            let segment = CompiledSegment::compile(&case.segment());
            tally.count(&answer, &judged, &segment);
            if beyond_the_bound(&judged) {
                continue;
            }
            if let (Answer::Raises(reason), None) = (&judged, segment.unsupported()) {
                assert!(
                    is_dynamic(reason),
                    "case {number} of seed {seed} raises, and that isn't static: {reason}"
                );
            }
            if !judged.agrees(&answer) {
                tally.mismatches += 1;
                if tally.mismatches <= PRINTED_MAX {
                    let (smallest, judged, answer) = shrink::shrink(case, &mut reference);
                    eprintln!(
                        "case {number}: evaluator {judged:?}, reference {answer:?}\n  {}",
                        smallest.json()
                    );
                }
            }
        }
        start = end;
    }
    eprintln!("{tally:#?}");
    assert_eq!(tally.mismatches, 0, "the evaluator differs from the reference; seed {seed}");
}

#[test]
fn explanations_say_what_verdicts_say() {
    let seed = from_env("DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
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

/// The evaluator stops where the reference goes on.
fn beyond_the_bound(judged: &Answer) -> bool {
    matches!(judged, Answer::Raises(reason) if reason.contains("needs more than"))
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
    fn count(&mut self, answer: &Answer, judged: &Answer, segment: &CompiledSegment) {
        match answer {
            Answer::Is(true) => self.members += 1,
            Answer::Is(false) => self.others += 1,
            Answer::Raises(exception) => *self.raised.entry(exception.clone()).or_default() += 1,
        }
        self.beyond_the_bound += usize::from(beyond_the_bound(judged));
        self.unsupported += usize::from(segment.unsupported().is_some());
    }
}
