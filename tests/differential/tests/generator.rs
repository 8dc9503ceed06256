//! The generator makes everything that it is there to make.

use rollcall_differential::features::Features;
use rollcall_differential::generate;

/// As many as one run of the tests compares. The seed is fixed: what is missing is missing from the generator.
const CASES: u64 = 200_000;

#[test]
fn every_boundary_value_and_feature_appears() {
    let mut features = Features::default();
    for number in 0..CASES {
        features.count(&generate::case(1, number, None));
    }
    let missing = features.missing();
    assert!(missing.is_empty(), "never made in {CASES} cases: {missing:#?}");
    let rarest: Vec<_> = features.0.iter().filter(|(_, count)| **count < 5).collect();
    eprintln!("{} features, fewer than 5 times: {rarest:?}", features.0.len());
}

#[test]
fn a_case_depends_on_its_seed_and_number_alone() {
    let case = |seed, number| generate::case(seed, number, None).json();
    assert_eq!(case(7, 3), case(7, 3));
    assert_ne!(case(7, 3), case(7, 4));
    assert_ne!(case(7, 3), case(8, 3));
}
