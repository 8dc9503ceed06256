//! What only the simulator does: an index that lags, throttling, lost answers, missing rights, another clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rollcall_dynamo_sim::{Action, DynamoSim, Faults, SimSettings};
use rollcall_model::shards::Coverage;
use rollcall_model::{Attribute, FaultKind, Item, ItemPages, ItemState, NativeId};
use rollcall_source_dynamodb::{Enricher, EnvironmentFilter, Scan, ScanConfig, estimate};

use crate::{config, ids, number, pages};

const TABLE: &str = "flagsmith_identities";
const START_US: i64 = 1_768_478_400_000_000;

/// What an item became, and when.
type State = (i64, Option<Arc<Item>>);

fn identity(environment: &str, identifier: &str, n: u64) -> Item {
    let s = |text: &str| Attribute::S(text.to_owned());
    Item::from([
        ("composite_key".to_owned(), Attribute::S(format!("{environment}_{identifier}"))),
        ("environment_api_key".to_owned(), s(environment)),
        ("identifier".to_owned(), s(identifier)),
        ("n".to_owned(), Attribute::N(n.to_string())),
    ])
}

fn fill(sim: &DynamoSim, environment: &str, count: usize) -> Vec<String> {
    for n in 0..count {
        sim.put(identity(environment, &format!("{n:04}"), n as u64)).unwrap();
    }
    (0..count).map(|n| format!("{environment}_{n:04}")).collect()
}

fn of(sim: &DynamoSim, environment: Option<&str>) -> ScanConfig {
    let mut config = config(&sim.url(), TABLE);
    config.environment = environment.map(|value| EnvironmentFilter {
        index: "environment_api_key-identifier-index",
        attribute: "environment_api_key",
        value: value.to_owned(),
    });
    config
}

#[tokio::test]
async fn an_index_that_lags_only_names() {
    let sim = DynamoSim::start(SimSettings { lag: Duration::from_secs(60), ..SimSettings::default() });
    fill(&sim, "a", 5);
    fill(&sim, "b", 5);
    sim.advance(Duration::from_secs(120));
    // All of this the index learns in a minute.
    assert!(sim.delete("a_0001"));
    sim.put(identity("a", "0002", 77)).unwrap();
    sim.put(identity("a", "new", 1)).unwrap();
    let mut moved = identity("b", "0003", 88);
    moved.insert("composite_key".to_owned(), Attribute::S("a_0003".to_owned()));
    sim.put(moved).unwrap();

    let read = pages(&of(&sim, Some("a")), None).await.unwrap();
    let found: Vec<_> = read
        .iter()
        .flat_map(|page| &page.items)
        .map(|item| (item.id.to_string(), number(&item.state)))
        .collect();
    let wanted = [
        ("a_0000", Some(0)),
        ("a_0001", None),
        ("a_0002", Some(77)),
        ("a_0003", Some(88)),
        ("a_0004", Some(4)),
    ];
    assert_eq!(found, wanted.map(|(id, n)| (id.to_owned(), n)), "as the table has them, not the index");
    // The new one is the stream's, whose every record is later than the index's delay before the scan.
    let written = sim.history();
    assert!(
        written.iter().any(|written| &*written.key == "a_new" && written.at_us >= sim.now_us() - 60_000_000)
    );
}

#[tokio::test]
async fn the_clock_is_the_servers() {
    let sim = DynamoSim::start(SimSettings::default());
    fill(&sim, "a", 5);
    let scan = Scan::start(&of(&sim, None), None).await.unwrap();
    let Coverage::Whole { cut_us } = scan.coverage() else { panic!("whole") };
    let read = pages(&of(&sim, None), None).await.unwrap();
    // Virtual time stands still, ten months ago; ours counts on between two answers.
    assert!((START_US - 6_000_000..START_US).contains(&cut_us), "{cut_us}");
    assert!(read.iter().all(|page| page.cut_us < START_US && page.until_us > START_US));
    assert!(read.iter().all(|page| page.until_us < START_US + 60_000_000));
}

/// Every item is as of its page's cut or later, and no later than its page's end; by a clock that runs a thousand times
/// faster than ours, so that a moment's difference is seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_as_of_its_cut_by_the_servers_clock() {
    let sim = Arc::new(DynamoSim::start(SimSettings {
        speed: 1_000,
        lag: Duration::from_secs(60),
        roll: None,
        ..SimSettings::default()
    }));
    let ids = fill(&sim, "a", 100);
    sim.advance(Duration::from_secs(120));
    sim.set_faults(Faults { slow_percent: 100, slow_ms_max: 10, ..Faults::default() });
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (sim, stop) = (Arc::clone(&sim), Arc::clone(&stop));
        move || {
            for n in 1_000_u64.. {
                let at = n.wrapping_mul(7_919) % 100;
                if n.is_multiple_of(5) {
                    sim.delete(&format!("a_{at:04}"));
                } else {
                    sim.put(identity("a", &format!("{at:04}"), n)).unwrap();
                }
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let mut read = Vec::new();
    for environment in [None, Some("a")] {
        let mut config = of(&sim, environment);
        (config.page_items, config.clock_slack_ms) = (9, 0);
        read.extend(pages(&config, None).await.unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    let (mut found, mut changed) = (0, 0);
    let mut histories: BTreeMap<String, Vec<State>> = BTreeMap::new();
    for written in sim.history() {
        histories.entry(written.key.to_string()).or_default().push((written.at_us, written.new));
    }
    for page in &read {
        for item in &page.items {
            let history = &histories[&item.id.to_string()];
            let ItemState::Present(state) = &item.state else { continue };
            let at = history.iter().position(|(_, new)| new.as_deref() == Some(state)).unwrap();
            found += 1;
            assert!(history[at].0 <= page.until_us, "{} was written after its page", item.id);
            if let Some((next_us, _)) = history.get(at + 1) {
                changed += 1;
                assert!(
                    *next_us >= page.cut_us,
                    "{} was written at {next_us}, before {}",
                    item.id,
                    page.cut_us
                );
            }
        }
    }
    assert!(found > ids.len() && changed > 0, "{found}, {changed}");
}

#[tokio::test]
async fn throttling_failures_and_lost_answers_are_borne() {
    let sim = DynamoSim::start(SimSettings { seed: 7, ..SimSettings::default() });
    let wanted = fill(&sim, "a", 300);
    sim.set_faults(Faults::bearable(10));
    let mut config = of(&sim, None);
    (config.page_items, config.segments) = (7, 5);
    assert_eq!(ids(&pages(&config, None).await.unwrap()), wanted);
    config = of(&sim, Some("a"));
    config.page_items = 130;
    let read = pages(&config, None).await.unwrap();
    assert_eq!(ids(&read), wanted);
    assert!(
        read.iter().flat_map(|page| &page.items).all(|item| number(&item.state).is_some()),
        "none is lost"
    );
    let enricher = Enricher::open(&config.aws, TABLE, "composite_key", 1e6).await.unwrap();
    let asked = wanted.iter().map(|id| NativeId::Text(Arc::from(id.as_str()))).collect();
    assert_eq!(enricher.get(asked).await.unwrap().len(), 300);
}

#[tokio::test]
async fn what_a_batch_leaves_undone_is_asked_for_again() {
    let sim = DynamoSim::start(SimSettings::default());
    let wanted = fill(&sim, "a", 250);
    sim.set_faults(Faults { unprocessed_percent: 100, ..Faults::default() });
    let mut config = of(&sim, Some("a"));
    config.page_items = 250;
    let read = pages(&config, None).await.unwrap();
    let found = read.iter().flat_map(|page| &page.items).filter(|item| number(&item.state).is_some()).count();
    assert_eq!((ids(&read), found), (wanted.clone(), 250), "an item left undone is not one that is gone");
    let enricher = Enricher::open(&config.aws, TABLE, "composite_key", 1e6).await.unwrap();
    let asked = wanted.iter().map(|id| NativeId::Text(Arc::from(id.as_str()))).collect();
    assert_eq!(enricher.get(asked).await.unwrap().len(), 250);
}

#[tokio::test]
async fn throttling_without_end_passes_to_who_waits_longer() {
    let sim = DynamoSim::start(SimSettings::default());
    let wanted = fill(&sim, "a", 30);
    let mut config = of(&sim, None);
    (config.page_items, config.segments, config.pages_in_flight_max) = (4, 2, 1);
    let mut scan = Scan::start(&config, None).await.unwrap();
    let first = scan.next().await.unwrap();
    sim.set_faults(Faults { throttled_percent: 100, ..Faults::default() });
    let mut seen = ids(std::slice::from_ref(&first));
    let mut last = first.next;
    let fault = loop {
        match scan.next().await {
            Ok(page) => {
                seen.extend(ids(std::slice::from_ref(&page)));
                last = page.next;
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert!(fault.what.contains("ProvisionedThroughputExceededException"), "{fault}");
    // The same scan, asked again, goes on; and so does another worker's.
    sim.set_faults(Faults::default());
    let mut other = seen.clone();
    other.extend(ids(&pages(&config, Some(last)).await.unwrap()));
    loop {
        let page = scan.next().await.unwrap();
        seen.extend(ids(std::slice::from_ref(&page)));
        if page.done {
            break;
        }
    }
    for mut all in [seen, other] {
        all.sort();
        assert_eq!(all, wanted);
    }
}

#[tokio::test]
async fn each_missing_permission_is_named() {
    let sim = DynamoSim::start(SimSettings::default());
    fill(&sim, "a", 3);
    let (whole, part) = (of(&sim, None), of(&sim, Some("a")));
    let deny = |action| sim.set_faults(Faults { denied: BTreeSet::from([action]), ..Faults::default() });
    deny(Action::Scan);
    let mut faults = vec![("Scan", pages(&whole, None).await.unwrap_err())];
    deny(Action::Query);
    faults.push(("Query", pages(&part, None).await.unwrap_err()));
    deny(Action::BatchGetItem);
    faults.push(("BatchGetItem", pages(&part, None).await.unwrap_err()));
    deny(Action::DescribeTable);
    faults.push(("DescribeTable", estimate(&whole).await.unwrap_err()));
    for (action, fault) in faults {
        assert_eq!(fault.kind, FaultKind::Config, "{fault}");
        let repair = fault.repair.as_deref().unwrap();
        assert!(repair.contains(&format!("dynamodb:{action}")) && repair.contains(TABLE), "{fault}");
        assert_eq!(
            repair.contains("/index/environment_api_key-identifier-index"),
            action == "Query",
            "{fault}"
        );
    }
}

#[tokio::test]
async fn an_unknown_access_key_says_so() {
    let sim = DynamoSim::start(SimSettings {
        access_key_id: Some("AKIDEXAMPLE".to_owned()),
        ..SimSettings::default()
    });
    let fault = Scan::start(&of(&sim, None), None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config, "{fault}");
    assert!(fault.repair.as_deref().is_some_and(|text| text.contains("credentials")), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However it is cut and whatever is in flight where it stops: what was given out and what comes after are all of it.
    #[test]
    fn going_on_after_any_page_gives_exactly_the_rest(
        items in 0_usize..60,
        segments in 1_u16..12,
        page_items in 1_usize..20,
        in_flight in 1_usize..6,
        stop in any::<prop::sample::Index>(),
        percent in prop_oneof![Just(0_u8), Just(5)],
        environment in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let sim = DynamoSim::start(SimSettings { seed: items as u64, ..SimSettings::default() });
            let wanted = fill(&sim, "a", items);
            sim.set_faults(Faults::bearable(percent));
            let mut config = of(&sim, environment.then_some("a"));
            (config.segments, config.page_items, config.pages_in_flight_max) = (segments, page_items, in_flight);
            let all = pages(&config, None).await.unwrap();
            assert_eq!(ids(&all), wanted);
            assert!(all.iter().all(|page| page.items.len() <= page_items));
            let stop = stop.index(all.len());
            if !all[stop].done {
                let rest = pages(&config, Some(all[stop].next.clone())).await.unwrap();
                let mut both = [ids(&all[..=stop]), ids(&rest)].concat();
                both.sort();
                assert_eq!(both, wanted);
            }
        });
    }
}
