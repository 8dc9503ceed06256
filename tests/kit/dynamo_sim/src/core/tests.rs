//! The world by itself: what holds of every tree, whatever grew it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use rollcall_model::{Attribute, Item};

use super::*;

const HOUR_US: i64 = 3_600_000_000;

fn settings(seed: u64) -> CoreSettings {
    crate::SimSettings { seed, ..crate::SimSettings::default() }.core()
}

fn world(settings: CoreSettings) -> Core {
    let mut core = Core::new(settings, 1_768_478_400_000_000);
    assert!(core.enable_stream(ViewType::NewAndOldImages));
    core
}

fn item(key: usize, n: usize) -> Item {
    Item::from([
        ("composite_key".to_owned(), Attribute::S(format!("key_{key}"))),
        ("n".to_owned(), Attribute::N(n.to_string())),
    ])
}

/// Something that befalls a tree.
#[derive(Clone, Debug)]
enum Event {
    Put(usize),
    Delete(usize),
    Split(usize),
    Roll(usize),
    Pass(i64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        10 => (0..12_usize).prop_map(Event::Put),
        3 => (0..12_usize).prop_map(Event::Delete),
        2 => any::<u8>().prop_map(|nth| Event::Split(usize::from(nth))),
        2 => any::<u8>().prop_map(|nth| Event::Roll(usize::from(nth))),
        2 => (0..6 * HOUR_US).prop_map(Event::Pass),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 0..120)
}

fn open_shards(core: &Core) -> Vec<Arc<str>> {
    let all = core.enabled().map_or(&[][..], |stream| stream.tree.all());
    all.iter().filter(|shard| shard.closed_us.is_none()).map(|shard| Arc::clone(&shard.id)).collect()
}

fn apply(core: &mut Core, nth: usize, event: &Event) {
    let now_us = core.now_us;
    let open = open_shards(core);
    match event {
        Event::Put(key) => drop(core.put(item(*key, nth)).unwrap()),
        Event::Delete(key) => drop(core.delete(&format!("key_{key}"))),
        Event::Split(shard) => {
            let tree = &mut core.enabled_mut().unwrap().tree;
            drop(tree.replace(&open[shard % open.len()], 2, now_us));
        }
        Event::Roll(shard) => {
            let tree = &mut core.enabled_mut().unwrap().tree;
            drop(tree.replace(&open[shard % open.len()], 1, now_us));
        }
        Event::Pass(us) => core.advance_to(now_us + us),
        Event::Restart => {
            assert!(core.disable_stream());
            assert!(core.enable_stream(ViewType::NewAndOldImages));
        }
    }
}

/// Reads a shard to its end, or to where nothing is left.
fn read(core: &Core, arn: &str, shard: &str, limit: usize) -> Vec<serde_json::Value> {
    let mut next = Some(core.shard_iterator(arn, shard, StartAt::TrimHorizon).unwrap());
    let mut records = Vec::new();
    while let Some(iterator) = next {
        let page = core.get_records(&iterator, limit, ReadFaults::default()).unwrap();
        let empty = page.records.is_empty();
        records.extend(page.records.iter().map(|json| serde_json::from_str(json).unwrap()));
        next = page.next.filter(|_| !empty);
    }
    records
}

fn listed(core: &Core, arn: &str, limit: usize) -> Vec<Arc<str>> {
    let mut all: Vec<Arc<str>> = Vec::new();
    loop {
        let after = all.last().map(|id| id.to_string());
        let page = core.describe_stream(arn, after.as_deref(), limit, None, 0).unwrap();
        all.extend(page.shards.iter().map(|shard| Arc::clone(&shard.id)));
        if page.last.is_none() {
            return all;
        }
    }
}

/// That reading every shard that is listed gives each write that is not too old once, in the order of its key.
fn check_all_is_read(core: &Core) {
    let mut by_sequence: HashMap<(String, String), usize> = HashMap::new();
    for (nth, written) in core.history.iter().enumerate() {
        let (shard, sequence) = written.record.as_ref().unwrap();
        assert!(by_sequence.insert((shard.to_string(), sequence.to_string()), nth).is_none());
    }
    let mut seen = BTreeSet::new();
    for stream in core.readable_streams() {
        for shard in listed(core, &stream.arn, 7) {
            let mut last: BTreeMap<String, usize> = BTreeMap::new();
            for record in read(core, &stream.arn, &shard, 3) {
                let sequence = record["dynamodb"]["SequenceNumber"].as_str().unwrap();
                let nth = by_sequence[&(shard.to_string(), sequence.to_owned())];
                let written = &core.history[nth];
                assert!(seen.insert(nth), "twice: {written:?}");
                assert!(last.insert(written.key.to_string(), nth).is_none_or(|before| before < nth));
                let image = |name: &str| {
                    serde_json::from_value::<Option<Item>>(record["dynamodb"][name].clone()).unwrap()
                };
                assert_eq!(image("NewImage").as_ref(), written.new.as_deref());
                assert_eq!(image("OldImage").as_ref(), written.old.as_deref());
            }
        }
    }
    let horizon_us = core.now_us - core.settings.retention_us;
    let kept = core.history.iter().enumerate().filter(|(_, written)| written.at_us >= horizon_us);
    let kept: BTreeSet<usize> = kept.map(|(nth, _)| nth).collect();
    assert_eq!(seen, kept);
}

/// That the numbers of a key grow along its shards, each of which is the one before or comes from it.
fn check_lineage(core: &Core) {
    let shards: HashMap<&str, &Shard> =
        core.streams.iter().flat_map(|stream| stream.tree.all()).map(|shard| (&*shard.id, shard)).collect();
    let mut last: HashMap<&str, (&str, SequenceNumber)> = HashMap::new();
    for written in &core.history {
        let (shard, sequence) = written.record.as_ref().unwrap();
        assert!((21..=40).contains(&sequence.to_string().len()));
        let this = shards[&**shard];
        assert!((this.from..=this.to).contains(&draw::place(&written.key)));
        assert!(*sequence > this.starting && this.ending.is_none_or(|ending| *sequence < ending));
        if let Some((before, number)) = last.insert(&written.key, (shard, *sequence)) {
            let mut at = Some(&**shard);
            let mut root = at;
            while at.is_some_and(|id| id != before) {
                root = at;
                at = at.and_then(|id| shards[id].parent.as_deref());
            }
            // A stream that was begun anew has shards of its own.
            let begun_anew = shards[root.unwrap()].parent.is_none() && shards[before].closed_us.is_some();
            assert!(begun_anew || (at.is_some() && number < *sequence), "{written:?}");
        }
    }
}

/// That the open shards share the key space, and children that of their parent.
fn check_ranges(core: &Core) {
    for stream in &core.streams {
        let mut open: Vec<(u64, u64)> = stream
            .tree
            .all()
            .iter()
            .filter(|shard| shard.closed_us.is_none())
            .map(|shard| (shard.from, shard.to))
            .collect();
        open.sort_unstable();
        if stream.disabled_us.is_none() {
            assert_eq!((open[0].0, open[open.len() - 1].1), (0, u64::MAX));
            assert!(open.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        } else {
            assert!(open.is_empty());
        }
        for shard in stream.tree.all() {
            let Some(parent) = shard.parent.as_deref().and_then(|id| stream.tree.known(id)) else { continue };
            assert!(parent.from <= shard.from && shard.to <= parent.to);
            assert!(parent.closed_us == Some(shard.opened_us) && parent.ending.unwrap() < shard.starting);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_once_and_in_order(seed in any::<u64>(), events in events()) {
        let mut core = world(settings(seed));
        for (nth, event) in events.iter().enumerate() {
            apply(&mut core, nth, event);
        }
        core.advance_to(core.now_us);
        check_ranges(&core);
        check_lineage(&core);
        check_all_is_read(&core);
    }

    #[test]
    fn a_seed_says_all(seed in any::<u64>(), events in events()) {
        let worlds: Vec<String> = (0..2).map(|_| {
            let mut core = world(settings(seed));
            for (nth, event) in events.iter().enumerate() {
                apply(&mut core, nth, event);
            }
            format!("{:?}", (core.history, core.streams.iter().map(|stream| (&stream.arn, stream.tree.all())).collect::<Vec<_>>()))
        }).collect();
        prop_assert_eq!(&worlds[0], &worlds[1]);
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> ErrorCode {
    answer.unwrap_err().code
}

fn stream_arn(core: &Core) -> String {
    core.streams.last().unwrap().arn.clone()
}

#[test]
fn records_go_after_a_day_and_shards_with_their_last() {
    let mut core = world(CoreSettings { rules: TreeRules { roots: 1, ..settings(1).rules }, ..settings(1) });
    let arn = stream_arn(&core);
    let root = open_shards(&core).remove(0);
    core.put(item(1, 1)).unwrap();
    core.put(item(1, 2)).unwrap();
    let first = core.history[0].record.as_ref().unwrap().1;
    core.advance_to(core.now_us + 2 * HOUR_US);
    core.put(item(1, 3)).unwrap();
    let third = core.history[2].record.as_ref().unwrap().1;
    let early = core.shard_iterator(&arn, &root, StartAt::TrimHorizon).unwrap();

    // After five hours its shard was rolled: nothing is gone, the iterator is expired.
    core.advance_to(core.now_us + 3 * HOUR_US);
    assert!(core.enabled().unwrap().tree.known(&root).unwrap().closed_us.is_some());
    assert_eq!(refused(core.get_records(&early, 10, ReadFaults::default())), ErrorCode::ExpiredIterator);
    assert_eq!(read(&core, &arn, &root, 1).len(), 3);

    // After 25 hours the first two records are gone, and numbers behind the trim point with them.
    core.advance_to(core.now_us + 20 * HOUR_US);
    assert_eq!(read(&core, &arn, &root, 10).len(), 1);
    for start in [StartAt::At(first), StartAt::After(first)] {
        assert_eq!(refused(core.shard_iterator(&arn, &root, start)), ErrorCode::TrimmedDataAccess);
    }
    let fresh = core.shard_iterator(&arn, &root, StartAt::TrimHorizon).unwrap();
    let behind = core.shard_iterator(&arn, &root, StartAt::After(third)).unwrap();
    assert!(core.get_records(&behind, 10, ReadFaults::default()).unwrap().records.is_empty());

    // What an iterator pointed to is trimmed before it is used.
    core.trim(core.now_us - 20 * HOUR_US);
    assert_eq!(refused(core.get_records(&fresh, 10, ReadFaults::default())), ErrorCode::TrimmedDataAccess);
    assert!(core.enabled().unwrap().tree.known(&root).unwrap().gone);

    // The shard is no longer listed; its child is, and still names it.
    assert_eq!(refused(core.shard_iterator(&arn, &root, StartAt::TrimHorizon)), ErrorCode::ResourceNotFound);
    let shards = core.describe_stream(&arn, None, 100, None, 0).unwrap().shards;
    assert!(shards.iter().all(|shard| shard.id != root));
    assert!(shards.iter().any(|shard| shard.parent.as_deref() == Some(&*root)));
}

#[test]
fn an_iterator_to_what_is_trimmed_in_an_open_shard_leads_nowhere() {
    let mut core = world(CoreSettings { rules: TreeRules { roots: 1, ..settings(1).rules }, ..settings(1) });
    let arn = stream_arn(&core);
    let shard = open_shards(&core).remove(0);
    core.put(item(1, 1)).unwrap();
    let first = core.history[0].record.as_ref().unwrap().1;
    let [horizon, at, after] = [StartAt::TrimHorizon, StartAt::At(first), StartAt::After(first)]
        .map(|start| core.shard_iterator(&arn, &shard, start).unwrap());
    core.advance_to(core.now_us + 1);
    let read = |core: &Core, iterator: &str| core.get_records(iterator, 10, ReadFaults::default());

    // The first is gone: what begins behind it has lost nothing.
    core.trim(core.now_us);
    core.put(item(1, 2)).unwrap();
    for iterator in [&horizon, &at] {
        assert_eq!(refused(read(&core, iterator)), ErrorCode::TrimmedDataAccess);
    }
    assert_eq!(read(&core, &after).unwrap().records.len(), 1);

    // The second is gone too, which this one would have begun with.
    core.advance_to(core.now_us + 1);
    core.trim(core.now_us);
    core.put(item(1, 3)).unwrap();
    assert_eq!(refused(read(&core, &after)), ErrorCode::TrimmedDataAccess);
    let second = core.history[1].record.as_ref().unwrap().1;
    assert_eq!(refused(core.shard_iterator(&arn, &shard, StartAt::At(second))), ErrorCode::TrimmedDataAccess);
    let rest = core.shard_iterator(&arn, &shard, StartAt::TrimHorizon).unwrap();
    assert_eq!(read(&core, &rest).unwrap().records.len(), 1);
}

#[test]
fn a_thousand_shards_are_listed_on_pages_in_no_order() {
    let mut core = world(settings(5));
    while core.enabled().unwrap().tree.all().len() < 1_200 {
        let open = open_shards(&core);
        let nth = core.history.len() + core.enabled().unwrap().tree.all().len();
        apply(&mut core, nth, &Event::Split(nth * 31 % open.len()));
        // Names begin with the time: listed by name they would be in the order of their making.
        core.advance_to(core.now_us + 1_000);
    }
    let arn = stream_arn(&core);
    let ids = listed(&core, &arn, 100);
    assert_eq!(ids.len(), core.enabled().unwrap().tree.all().len());
    let mut by_name = ids.clone();
    by_name.sort_unstable();
    assert_ne!(ids, by_name);
    let made: Vec<Arc<str>> =
        core.enabled().unwrap().tree.all().iter().map(|shard| Arc::clone(&shard.id)).collect();
    assert_ne!(ids, made);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), made.iter().collect::<BTreeSet<_>>());

    // A page that says shards again says them and goes on.
    let page = core.describe_stream(&arn, Some(&ids[99]), 100, None, 10).unwrap();
    assert_eq!(page.shards[0].id, ids[90]);
    assert_eq!(page.last.as_deref(), Some(&*ids[189]));
    let parent = core.enabled().unwrap().tree.all().iter().find_map(|shard| shard.parent.clone()).unwrap();
    let children = core.describe_stream(&arn, None, 100, Some(&parent), 0).unwrap();
    assert_eq!(children.shards.len(), 2);
}

#[test]
fn answers_end_at_a_thousand_records_and_at_a_megabyte() {
    let mut core = world(CoreSettings { rules: TreeRules { roots: 1, ..settings(2).rules }, ..settings(2) });
    let arn = stream_arn(&core);
    for n in 0..1_500 {
        core.put(item(n, n)).unwrap();
    }
    let shard = open_shards(&core).remove(0);
    let iterator = core.shard_iterator(&arn, &shard, StartAt::TrimHorizon).unwrap();
    let page = core.get_records(&iterator, RECORDS_MAX, ReadFaults::default()).unwrap();
    assert_eq!(page.records.len(), 1_000);
    let empty = ReadFaults { empty: true, late_end: false };
    let same = core.get_records(&page.next.unwrap(), RECORDS_MAX, empty).unwrap();
    assert!(same.records.is_empty());
    let rest = core.get_records(&same.next.unwrap(), RECORDS_MAX, ReadFaults::default()).unwrap();
    assert_eq!(rest.records.len(), 500);

    for n in 0..5 {
        let mut large = item(n, 0);
        large.insert("text".to_owned(), Attribute::S("x".repeat(300_000)));
        core.put(large).unwrap();
    }
    let page = core.get_records(&rest.next.unwrap(), RECORDS_MAX, ReadFaults::default()).unwrap();
    assert_eq!(page.records.len(), 3);
}

#[test]
fn an_iterator_of_a_time_begins_with_what_was_made_in_that_second() {
    let mut core = world(CoreSettings { rules: TreeRules { roots: 1, ..settings(2).rules }, ..settings(2) });
    let arn = stream_arn(&core);
    let shard = open_shards(&core).remove(0);
    let start_us = core.now_us;
    for n in 0..3 {
        core.put(item(1, n)).unwrap();
        core.advance_to(core.now_us + 1_500_000);
    }
    // Made at 0 s, 1.5 s and 3 s, as the records say at 0, 1 and 3.
    for (after_us, left) in [(-HOUR_US, 3), (0, 3), (1, 2), (1_000_000, 2), (1_000_001, 1), (4_000_000, 0)] {
        let iterator = core.shard_iterator(&arn, &shard, StartAt::Timestamp(start_us + after_us)).unwrap();
        let page = core.get_records(&iterator, 10, ReadFaults::default()).unwrap();
        assert_eq!(page.records.len(), left, "{after_us}");
    }
    let to_come = core.shard_iterator(&arn, &shard, StartAt::Timestamp(core.now_us + 1));
    assert_eq!(refused(to_come), ErrorCode::Validation);
}

#[test]
fn a_closed_shards_end_comes_with_its_last_records_or_after_them() {
    let mut core = world(CoreSettings { rules: TreeRules { roots: 1, ..settings(2).rules }, ..settings(2) });
    let arn = stream_arn(&core);
    core.put(item(1, 1)).unwrap();
    let shard = open_shards(&core).remove(0);
    let iterator = core.shard_iterator(&arn, &shard, StartAt::TrimHorizon).unwrap();
    let open = core.get_records(&iterator, 10, ReadFaults::default()).unwrap();
    assert_eq!((open.records.len(), open.next.is_some()), (1, true));
    apply(&mut core, 0, &Event::Roll(0));
    let closed = core.get_records(&iterator, 10, ReadFaults::default()).unwrap();
    assert_eq!((closed.records.len(), closed.next), (1, None));
    let late = core.get_records(&iterator, 10, ReadFaults { late_end: true, empty: false }).unwrap();
    assert_eq!(late.records.len(), 1);
    let end = core.get_records(&late.next.unwrap(), 10, ReadFaults { late_end: true, empty: false }).unwrap();
    assert_eq!((end.records.len(), end.next), (0, None));
}

#[test]
fn eventually_consistent_readers_see_what_was() {
    let mut core = world(CoreSettings { lag_us: 1_000_000, ..settings(1) });
    let identity = |plan: &str| {
        let text = |text: &str| Attribute::S(text.to_owned());
        Item::from([
            ("composite_key".to_owned(), text("e_i")),
            ("environment_api_key".to_owned(), text("e")),
            ("identifier".to_owned(), text("i")),
            ("plan".to_owned(), text(plan)),
        ])
    };
    core.put(identity("a")).unwrap();
    let query = |core: &Core| {
        let page = core.table.query("e", None, None, true, |_| true);
        page.items.iter().map(|stored| stored.item["plan"].clone()).collect::<Vec<_>>()
    };
    assert!(query(&core).is_empty());
    core.advance_to(core.now_us + 1_000_000);
    assert_eq!(query(&core), [Attribute::S("a".to_owned())]);
    core.put(identity("b")).unwrap();
    assert_eq!(query(&core), [Attribute::S("a".to_owned())]);
    assert_eq!(core.table.scan((0, 1), None, None, true).items[0].item["plan"], Attribute::S("b".to_owned()));
    assert_eq!(
        core.table.scan((0, 1), None, None, false).items[0].item["plan"],
        Attribute::S("a".to_owned())
    );
    core.delete("e_i");
    core.advance_to(core.now_us + 1_000_000);
    assert!(query(&core).is_empty());
}

#[test]
fn a_stream_that_ended_is_readable_for_a_day() {
    let mut core = world(settings(1));
    let old = stream_arn(&core);
    core.put(item(1, 1)).unwrap();
    assert!(core.disable_stream());
    core.put(item(1, 2)).unwrap();
    assert!(core.history[1].record.is_none());
    assert!(core.enable_stream(ViewType::KeysOnly));
    assert_ne!(stream_arn(&core), old);
    core.advance_to(core.now_us + 23 * HOUR_US);
    let shards = listed(&core, &old, 100);
    assert_eq!(shards.iter().map(|shard| read(&core, &old, shard, 10).len()).sum::<usize>(), 1);
    core.advance_to(core.now_us + 2 * HOUR_US);
    assert_eq!(
        refused(core.describe_stream(&old, None, 100, None, 0).map(drop)),
        ErrorCode::ResourceNotFound
    );
}

#[test]
fn an_item_whose_time_is_over_is_removed_by_the_service() {
    let mut core = world(settings(1));
    core.put(item(1, 1)).unwrap();
    core.expire("key_1");
    let arn = stream_arn(&core);
    let shards = listed(&core, &arn, 100);
    let records: Vec<_> = shards.iter().flat_map(|shard| read(&core, &arn, shard, 10)).collect();
    assert_eq!(records[1]["eventName"], "REMOVE");
    assert_eq!(records[1]["userIdentity"]["PrincipalId"], "dynamodb.amazonaws.com");
    assert_eq!(records[1]["userIdentity"]["Type"], "Service");
    assert!(records[0].get("userIdentity").is_none());
}
