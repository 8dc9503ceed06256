//! docs/rules.md, judged by the evaluator; tests/differential asks the reference the same.

mod examples;

use examples::{ENVIRONMENT_KEY, SEGMENT_ID, Verdict, examples};
use rollcall_model::SegmentDoc;
use rollcall_rules::{CompiledSegment, Context};

#[test]
fn c22_every_example_is_as_it_says() {
    for example in examples() {
        let segment = CompiledSegment::compile(&SegmentDoc {
            id: SEGMENT_ID.into(),
            project_id: "1".into(),
            name: "example".to_owned(),
            rules: example.rules.clone(),
            invalid: None,
            deleted: false,
        });
        let judged = segment.judge(&Context {
            environment_key: ENVIRONMENT_KEY,
            environment_name: &example.environment_name,
            identifier: &example.identifier,
            identity_key: &format!("{ENVIRONMENT_KEY}_{}", example.identifier),
            traits: &example.traits,
            system_traits: &example.system_traits,
            tree: None,
        });
        let holds = match example.verdict {
            Verdict::Yes => judged == Ok(true),
            Verdict::No => judged == Ok(false),
            Verdict::Raises => judged.is_err() && segment.unsupported().is_some(),
            Verdict::Unsupported => segment.unsupported().is_some(),
            Verdict::Stops => judged.is_err() && segment.unsupported().is_none(),
        };
        assert!(holds, "{}\nbut {judged:?}, {:?}", example.row, segment.unsupported());
    }
}
