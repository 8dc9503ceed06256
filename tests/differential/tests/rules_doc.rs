//! C22: the examples of docs/rules.md, asked of the reference.

#[path = "../../../pipeline/rules/tests/rules_doc/examples.rs"]
mod examples;

use examples::{ENVIRONMENT_KEY, Example, SEGMENT_ID, Verdict, examples};
use rollcall_differential::{Answer, Case, Reference, Release};

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
    let answers = Reference::start(Release::Pinned)
        .answers(&asked.iter().map(|asked| case(asked).json()).collect::<Vec<_>>());
    for (example, answer) in asked.iter().zip(answers) {
        let holds = match example.verdict {
            Verdict::Yes => answer == Answer::Is(true),
            Verdict::No => answer == Answer::Is(false),
            Verdict::Raises => matches!(answer, Answer::Raises(_)),
            Verdict::Unsupported => matches!(answer, Answer::Is(_)),
            Verdict::Stops => true,
        };
        assert!(holds, "{}\nbut the reference: {answer:?}", example.row);
    }
}
