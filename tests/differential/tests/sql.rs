//! C22: the SQL form of a segment keeps its promise on the real engine, on cases of a fresh seed each run.
//!
//! `DIFFERENTIAL_SEED=… SQL_CASES=…` run others, `DIFFERENTIAL_FIRST=…` from another case on,
//! `DIFFERENTIAL_OPERATOR=REGEX` one operator alone; the seed is printed.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};
use rollcall_differential::shrink::shrink;
use rollcall_differential::sql::{
    Comparison, GROUP_CASES, Server, Tally, Verdict, Violation, compare, first_violation,
};
use rollcall_differential::{Case, Run, generate};
use rollcall_model::{Condition, Rule, RuleType, Value};
use rollcall_rules::sql::{Class, Predicate};
use tokio::runtime::Handle;

/// Cases of a run that names no number: what two cores do in a few minutes. The engine needs milliseconds to read the
/// text of each predicate; every one is then asked of [`GROUP_CASES`] identities.
const CASES: u64 = 10_000;
/// The first cases tell the shares of each operator well enough: every condition is compiled once more for it.
const TALLIED_CASES: u64 = 10_000;
/// Cases whose identities are in the table at once: the engine reads all of them for each query.
const HELD_CASES: u64 = 32 * GROUP_CASES as u64;
/// Queries at once, so that the engine works while the evaluator does.
const QUERIES: usize = 2;
/// Violations made small and printed.
const PRINTED_MAX: usize = 8;
/// A compiler as wrong as this is not measured further.
const VIOLATIONS_MAX: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c22_predicates_keep_their_promise() {
    let run = Run::from_env("SQL_CASES", CASES);
    let mut server = Server::start().await;
    let (mut tally, mut totals) = (Tally::default(), Totals::default());
    for numbers in run.batches(HELD_CASES) {
        let cases: Vec<Case> =
            numbers.clone().map(|n| generate::case(run.seed, n, run.operator.as_deref())).collect();
        if numbers.start - run.numbers.start < TALLIED_CASES {
            cases.iter().for_each(|case| tally.count(case));
        }
        let ids = server.hold(&cases).await;
        let groups = cases.chunks(GROUP_CASES).zip(ids.chunks(GROUP_CASES));
        let comparisons: Vec<Comparison> = stream::iter(groups)
            .map(|(cases, ids)| compare(&server, cases, cases, ids))
            .buffered(QUERIES)
            .collect()
            .await;
        for (group, comparison) in comparisons.into_iter().enumerate() {
            let start = numbers.start + (group * GROUP_CASES) as u64;
            let numbers = start..(start + GROUP_CASES as u64).min(numbers.end);
            totals.add(&run, numbers, comparison, &mut server);
        }
        assert!(totals.violations < VIOLATIONS_MAX, "too many violations to go on; seed {}", run.seed);
    }
    eprintln!("{tally}\n{totals:#?}");
    eprintln!("{}", run.speed(run.cases(), "cases"));
    eprintln!("{}", run.speed(totals.comparisons, "comparisons of a segment on an identity"));
    assert!(totals.comparisons >= run.cases() / 2, "next to nothing was compared");
    assert_eq!(totals.violations, 0, "SQL breaks its promise; seed {}", run.seed);
}

/// What fails is told from what fails with it.
#[tokio::test]
async fn a_guilty_predicate_and_identity_stand_alone() {
    let mut server = Server::start().await;
    let named = |name: &str| Case { identifier: name.into(), ..generate::case(1, 1, None) };
    let ids = server.hold(&["a", "b", "c", "d", "e"].map(named)).await;
    let predicates =
        ["i.identifier < 'c'", "throwIf(i.identifier = 'd')", "missing(1)", "toNullable(1)", "1"]
            .map(|text| Predicate { class: Class::Exact, condition: text.to_owned(), params: Vec::new() });
    let verdicts = server.verdicts(&predicates.each_ref(), &ids).await;
    let letters = |row: &Vec<Verdict>| -> String {
        row.iter()
            .map(|verdict| match verdict {
                Verdict::Is(true) => '1',
                Verdict::Is(false) => '0',
                Verdict::Failed(_) => 'F',
            })
            .collect()
    };
    let rows: Vec<String> = verdicts.iter().map(letters).collect();
    assert_eq!(rows, ["11000", "000F0", "FFFFF", "FFFFF", "11111"]);
}

#[derive(Debug, Default)]
struct Totals {
    comparisons: u64,
    raised: u64,
    violations: u64,
    printed: usize,
}

impl Totals {
    fn add(&mut self, run: &Run, numbers: Range<u64>, found: Comparison, server: &mut Server) {
        self.comparisons += found.comparisons;
        self.raised += found.raised;
        self.violations += found.violations.len() as u64;
        for violation in found.violations {
            if self.printed < PRINTED_MAX {
                self.printed += 1;
                eprintln!(
                    "DIFFERENTIAL_SEED={} DIFFERENTIAL_FIRST={} SQL_CASES={}: {}",
                    run.seed,
                    numbers.start,
                    numbers.end - numbers.start,
                    smallest(violation, server)
                );
            }
        }
    }
}

/// The smallest case that breaks a promise in the same way.
fn smallest(violation: Violation, server: &mut Server) -> Violation {
    let kind = violation.kind;
    let mut smallest = violation;
    tokio::task::block_in_place(|| {
        let case = smallest.case.clone();
        shrink(case, |candidates| {
            let found = Handle::current().block_on(first_violation(server, candidates, kind));
            found.map(|(index, violation)| {
                smallest = violation;
                index
            })
        });
    });
    smallest
}

/// ClickHouse's casts of floats to ints beyond 64 bits round; the remainders of these are off by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c22_remainders_of_large_floats_are_pythons() {
    let floats =
        [1e22, -1e22, f64::MAX, 1.313_173_215_031_183_7e237, 71_345_678_901_234_567_890.0, 3e-7, 0.75];
    let operands = ["3|1", "-3|-2", "10|0", "0.1|0.05", "7e-300|0", "1e22|0", "3|2", "0.25|0", "inf|inf"];
    let cases: Vec<Case> = floats
        .iter()
        .flat_map(|float| operands.map(|operand| (*float, operand)))
        .map(|(float, operand)| Case {
            environment_key: "env".into(),
            environment_name: "Production".into(),
            identifier: "a".into(),
            identity_key: "env_a".into(),
            traits: [("n".to_owned(), Value::Float(float))].into(),
            system_traits: [].into(),
            segment_id: "1".into(),
            rules: vec![Rule {
                rule_type: RuleType::All,
                conditions: vec![Condition {
                    operator: "MODULO".into(),
                    property: Some("n".into()),
                    value: Some(operand.into()),
                }],
                rules: vec![],
            }],
        })
        .collect();
    let mut server = Server::start().await;
    let ids = server.hold(&cases).await;
    let found = compare(&server, &cases, &cases, &ids).await;
    assert_eq!(found.comparisons, (cases.len() * cases.len()) as u64);
    assert!(found.violations.is_empty(), "{}", found.violations[0]);
}
