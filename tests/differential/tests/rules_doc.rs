//! C22: the examples of docs/rules.md, asked of both releases of the reference.

#[path = "../../../pipeline/rules/tests/rules_doc/examples.rs"]
mod examples;

use examples::{ENVIRONMENT_KEY, Example, SEGMENT_ID, Verdict, examples};
use rollcall_differential::{Answer, Case, References};

fn case(example: &Example) -> Case {
    Case {
        environment_key: ENVIRONMENT_KEY.to_owned(),
        environment_name: example.environment_name.clone(),
        identifier: example.identifier.clone(),
        identity_key: format!("{ENVIRONMENT_KEY}_{}", example.identifier),
        traits: example.traits.clone(),
        system_traits: example.system_traits.clone(),
        segment_id: SEGMENT_ID.to_owned(),
        rules: example.rules.clone(),
    }
}

#[test]
fn c22_the_reference_says_what_the_page_says() {
    // What stops here goes on for years there.
    let asked: Vec<Example> = examples().into_iter().filter(|one| one.verdict != Verdict::Stops).collect();
    let lines: Vec<String> = asked.iter().map(|one| case(one).json()).collect();
    let (answers, ()) = References::start().answers(&lines, || ());
    for (example, both) in asked.iter().zip(answers.pinned.into_iter().zip(answers.newest)) {
        for answer in [&both.0, &both.1] {
            let holds = match example.verdict {
                Verdict::Yes => *answer == Answer::Is(true),
                Verdict::No => *answer == Answer::Is(false),
                Verdict::Raises => matches!(answer, Answer::Raises(_)),
                Verdict::Unsupported => matches!(answer, Answer::Is(_)),
                Verdict::Stops => true,
            };
            assert!(holds, "{}\nbut the references: {both:?}", example.row);
        }
    }
}
