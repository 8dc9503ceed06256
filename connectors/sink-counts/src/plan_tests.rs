//! The decisions, case by case.

use super::*;

fn pair() -> Pair {
    Pair { segment_id: "7".into(), environment_id: "3".into() }
}

/// The plan for one pair.
fn plan_one(
    preset: Preset,
    (difference, restated): (i64, bool),
    existing: Option<(i64, bool)>,
    target: Option<(i64, State)>,
) -> Plan {
    let changed = BTreeMap::from([(pair(), Changed { difference, restated })]);
    let existing = existing.map(|(count, live)| (pair(), Existing { count, live })).into_iter().collect();
    let reason = |state| (state == State::Unsupported).then(|| "regex".to_owned());
    let targets = target
        .map(|(count, state)| (pair(), Target { count, state, reason: reason(state) }))
        .into_iter()
        .collect();
    plan(preset, &changed, &existing, &targets)
}

fn row(count: i64, state: Option<State>) -> NewRow {
    let reason = (state == Some(State::Unsupported)).then(|| "regex".to_owned());
    NewRow { pair: pair(), count, state, reason }
}

fn set(row: NewRow) -> Plan {
    Plan { set: vec![row], ..Plan::default() }
}
fn add(row: NewRow) -> Plan {
    Plan { add: vec![row], ..Plan::default() }
}
fn remove() -> Plan {
    Plan { remove: vec![pair()], ..Plan::default() }
}

const BOTH: [Preset; 2] = [Preset::Native, Preset::Flagsmith];

#[test]
fn an_undisturbed_row_moves_by_the_difference() {
    for preset in BOTH {
        assert_eq!(plan_one(preset, (-4, false), Some((10, true)), None), set(row(6, None)));
        assert_eq!(plan_one(preset, (0, false), Some((10, true)), None), Plan::default());
    }
}

#[test]
fn a_row_at_or_below_zero_takes_the_sum() {
    assert!(needs_target(
        Changed { difference: -10, restated: false },
        Some(Existing { count: 10, live: true })
    ));
    // The sum is zero too: Flagsmith has no row for that, we have.
    let zero = Some((0, State::Live));
    assert_eq!(plan_one(Preset::Flagsmith, (-10, false), Some((10, true)), zero), remove());
    assert_eq!(
        plan_one(Preset::Native, (-10, false), Some((10, true)), zero),
        set(row(0, Some(State::Live)))
    );
    // Another writer had lowered the row: never negative.
    for preset in BOTH {
        let plan = plan_one(preset, (-1, false), Some((0, true)), Some((8, State::Live)));
        assert_eq!(plan, set(row(8, Some(State::Live))));
    }
}

#[test]
fn an_absent_row_takes_the_sum() {
    for preset in BOTH {
        let plan = plan_one(preset, (1, false), None, Some((12, State::Filling)));
        assert_eq!(plan, add(row(12, Some(State::Filling))));
    }
    assert_eq!(plan_one(Preset::Flagsmith, (0, true), None, Some((0, State::Live))), Plan::default());
    assert_eq!(
        plan_one(Preset::Native, (0, true), None, Some((0, State::Live))),
        add(row(0, Some(State::Live)))
    );
}

#[test]
fn a_row_that_stood_before_us_is_replaced_not_added_to() {
    for preset in BOTH {
        let plan = plan_one(preset, (3, true), Some((500, true)), Some((3, State::Live)));
        assert_eq!(plan, set(row(3, Some(State::Live))));
    }
}

#[test]
fn what_is_removed_or_unsupported_has_no_count() {
    for existing in [None, Some((5, true))] {
        let gone = |preset, state| plan_one(preset, (0, true), existing, Some((5, state)));
        let nothing = if existing.is_some() { remove() } else { Plan::default() };
        assert_eq!(gone(Preset::Flagsmith, State::Removed), nothing);
        assert_eq!(gone(Preset::Native, State::Removed), nothing);
        assert_eq!(gone(Preset::Flagsmith, State::Unsupported), nothing);
        let unsupported = row(5, Some(State::Unsupported));
        let shown = if existing.is_some() { set(unsupported) } else { add(unsupported) };
        assert_eq!(gone(Preset::Native, State::Unsupported), shown);
    }
}

#[test]
fn the_row_of_a_deleted_segment_goes_whatever_the_ledger_says() {
    for change in [(4, false), (0, true), (-9, false)] {
        let plan = plan_one(Preset::Flagsmith, change, Some((5, false)), Some((9, State::Live)));
        assert_eq!(plan, remove());
    }
}

#[test]
fn a_row_that_the_ledger_does_not_know_goes() {
    for preset in BOTH {
        assert_eq!(plan_one(preset, (0, true), Some((5, true)), None), remove());
        assert_eq!(plan_one(preset, (0, true), None, None), Plan::default());
    }
}
