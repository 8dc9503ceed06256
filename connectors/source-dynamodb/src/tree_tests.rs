use super::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const NOW: i64 = 1_000 * HOUR;
const SLACK: i64 = 5 * SECOND;

fn stream(readers: u16) -> Stream {
    Stream {
        name: "arn".to_owned(),
        epoch: 1,
        start: rollcall_model::shards::StreamStart::TrimHorizon,
        began_us: NOW,
        readers,
        ended: BTreeSet::new(),
    }
}

fn listing(shards: &[(&str, Option<&str>, bool)]) -> Listing {
    let mut listing = Listing::default();
    for (id, parent, closed) in shards {
        listing.add((*id).to_owned(), parent.map(str::to_owned), *closed);
    }
    listing
}

fn noted(parent: Option<&str>, after: Option<&str>, through_us: i64, finished: bool) -> ShardProgress {
    ShardProgress {
        children: Default::default(),
        parent: parent.map(str::to_owned),
        after: after.map(|after| after.parse().expect("a sequence number")),
        through_us,
        finished,
    }
}

fn own(shards: &[(&str, ShardProgress)]) -> BTreeMap<ShardId, ShardProgress> {
    shards.iter().map(|(id, progress)| ((*id).to_owned(), progress.clone())).collect()
}

struct Case {
    stream: Stream,
    begun: bool,
    listing: Listing,
    own: BTreeMap<ShardId, ShardProgress>,
    others: BTreeMap<u16, Shards>,
    index: u16,
    now_us: i64,
}

impl Case {
    /// One reader, begun.
    fn new(listing: Listing, own: BTreeMap<ShardId, ShardProgress>) -> Self {
        let others = BTreeMap::new();
        Self { stream: stream(1), begun: true, listing, own, others, index: 0, now_us: NOW }
    }
    fn plan(&self) -> Plan {
        View {
            stream: &self.stream,
            index: self.index,
            begun: self.begun,
            listing: &self.listing,
            own: &self.own,
            others: &self.others,
            now_us: self.now_us,
            slack_us: SLACK,
        }
        .plan()
    }
}

fn ids<T>(map: &BTreeMap<ShardId, T>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

#[test]
fn every_page_counts_whatever_its_order_and_however_often_it_comes() {
    let mut listing = Listing::default();
    for _ in 0..2 {
        listing.add("c".to_owned(), Some("a".to_owned()), false);
        listing.add("a".to_owned(), None, true);
        listing.add("a".to_owned(), None, false);
        listing.add("c".to_owned(), None, false);
    }
    assert_eq!(listing.shards.len(), 2);
    assert!(listing.shards["a"].closed, "an older page does not open it again");
    assert_eq!(listing.shards["c"].parent.as_deref(), Some("a"));
    assert_eq!(listing.ended(), ["a".to_owned()].into());
}

#[test]
fn at_the_beginning_roots_are_read_and_the_rest_waits() {
    let listing = listing(&[
        ("a", Some("trimmed"), true),
        ("b", Some("a"), false),
        ("c", Some("a"), false),
        ("d", None, false),
    ]);
    let case = Case { begun: false, ..Case::new(listing, BTreeMap::new()) };
    let plan = case.plan();
    assert_eq!(ids(&plan.read), ["a", "d"]);
    assert_eq!(ids(&plan.waiting), ["b", "c"]);
    assert_eq!(ids(&plan.note), ["a", "b", "c", "d"]);
    assert_eq!(plan.losses, []);
}

#[test]
fn latest_leaves_out_what_had_ended_and_reads_what_ended_since() {
    let before =
        listing(&[("a", None, true), ("b", Some("a"), true), ("c", Some("b"), false), ("d", None, false)]);
    let ended = before.ended();
    assert_eq!(ended, ["b".to_owned()].into(), "the last of those that ended");
    // By the time a reader starts, c and d have been split.
    let now = listing(&[
        ("a", None, true),
        ("b", Some("a"), true),
        ("c", Some("b"), true),
        ("d", None, true),
        ("e", Some("c"), false),
        ("f", Some("d"), false),
    ]);
    let mut case = Case { begun: false, ..Case::new(now, BTreeMap::new()) };
    case.stream.ended = ended;
    let plan = case.plan();
    assert_eq!(ids(&plan.read), ["c", "d"]);
    assert_eq!(ids(&plan.waiting), ["e", "f"]);
    assert_eq!(ids(&plan.note), ["c", "d", "e", "f"]);
}

#[test]
fn a_child_begins_once_the_others_progress_says_that_its_parent_is_finished() {
    let name = |wanted: u16, not: &str| {
        let names = (0..).map(|n| format!("shard-{n}"));
        names.into_iter().find(|name| owner(name, 2) == wanted && name != not).expect("a name")
    };
    let parent = name(1, "");
    let child = name(0, &parent);
    let listing = listing(&[(&parent, None, true), (&child, Some(&parent), false)]);
    let mut case = Case::new(listing, BTreeMap::new());
    case.stream.readers = 2;
    let plan = case.plan();
    assert_eq!(
        (ids(&plan.read), ids(&plan.waiting)),
        (vec![], vec![child.as_str()]),
        "nobody knows the parent yet"
    );
    for finished in [false, true] {
        let shards = own(&[(&parent, noted(None, Some("5"), NOW - HOUR, finished))]);
        case.others = [(1, Shards { epoch: 1, shards })].into();
        let plan = case.plan();
        assert_eq!(plan.read.contains_key(&child), finished);
    }
    let read = case.plan().read;
    assert_eq!(read[&child].after, None, "from its oldest record");
}

#[test]
fn losses_are_found_and_said_with_their_windows() {
    // Vanished.
    let progress = noted(None, Some("7"), NOW - 30 * HOUR, false);
    let plan = Case::new(listing(&[]), own(&[("a", progress.clone())])).plan();
    let loss = plan.losses.first().expect("a loss");
    assert_eq!((&loss.cause, loss.from_us, loss.to_us), (&Cause::Vanished, NOW - 30 * HOUR, NOW - 24 * HOUR));
    assert_eq!(loss.after, progress.after);
    // Never read for more than a day.
    let unread = own(&[("a", noted(None, None, NOW - 25 * HOUR, false))]);
    let plan = Case::new(listing(&[("a", None, false)]), unread.clone()).plan();
    assert_eq!(plan.losses.iter().map(|loss| &loss.cause).collect::<Vec<_>>(), [&Cause::Unread]);
    assert!(plan.read.is_empty());
    // Its parent came and went.
    let done = noted(None, Some("7"), NOW - 40 * HOUR, true);
    let late = listing(&[("c", Some("b"), false)]);
    let plan = Case::new(late, own(&[("a", done)])).plan();
    let loss = plan.losses.first().expect("a loss");
    assert_eq!((&loss.cause, loss.from_us), (&Cause::Orphan { parent: "b".to_owned() }, NOW - 40 * HOUR));
    // A raised epoch accepts each of them.
    let vanished = ("x", noted(None, Some("7"), NOW - 30 * HOUR, false));
    let mut all = unread;
    all.insert(vanished.0.to_owned(), vanished.1);
    let shards = listing(&[("a", None, false), ("c", Some("b"), false), ("d", Some("x"), false)]);
    let mut case = Case { begun: false, ..Case::new(shards, all) };
    case.stream.epoch = 2;
    let plan = case.plan();
    assert_eq!(plan.losses, []);
    assert_eq!(ids(&plan.read), ["a", "c", "d"]);
    assert_eq!(plan.note["x"], None);
    // And once it is begun, so it stays.
    let begun = plan.note.iter().filter_map(|(id, note)| Some((id.clone(), note.clone()?))).collect();
    let after = Case { begun: true, own: begun, ..case }.plan();
    assert_eq!((after.losses, ids(&after.read)), (vec![], vec!["a", "c", "d"]));
}

#[test]
fn what_is_finished_is_kept_until_its_children_are_known_and_it_is_gone_for_good() {
    let old = NOW - 30 * HOUR;
    let done = own(&[("a", noted(None, Some("7"), old, true))]);
    let alone = Case::new(listing(&[("a", None, true)]), done.clone()).plan();
    assert_eq!(alone, Plan::default(), "listed: kept");
    let child = listing(&[("b", Some("a"), false)]);
    let plan = Case::new(child.clone(), done.clone()).plan();
    assert!(!plan.note.contains_key("a") && plan.note.contains_key("b"), "its child is not known: kept");
    let mut known = done;
    known.insert("b".to_owned(), noted(Some("a"), None, NOW, false));
    assert_eq!(Case::new(child.clone(), known.clone()).plan().note["a"], None);
    known.insert("a".to_owned(), noted(None, Some("7"), NOW - HOUR, true));
    let plan = Case::new(child, known.clone()).plan();
    assert!(!plan.note.contains_key("a"), "it may be missing from one answer only");
    // Whatever is forgotten is not read again, should it be listed once more.
    known.remove("a");
    known.insert("b".to_owned(), noted(Some("a"), Some("9"), NOW, false));
    let plan = Case::new(listing(&[("a", None, true), ("b", Some("a"), false)]), known).plan();
    assert_eq!(ids(&plan.read), ["b"]);
}

#[test]
fn the_whole_stream_is_in_the_log_up_to_the_least_of_what_is_listed() {
    let through = |listing: &Listing, shards: &[(&str, ShardProgress)]| {
        let all = [(0, Shards { epoch: 1, shards: own(shards) })].into();
        all_through_us(&stream(1), listing, &all, SLACK)
    };
    let shards = listing(&[("a", None, true), ("b", Some("a"), false), ("c", Some("a"), false)]);
    let a = |finished| ("a", noted(None, Some("5"), NOW + HOUR, finished));
    let b = ("b", noted(Some("a"), Some("6"), NOW + 3 * HOUR, false));
    let c = ("c", noted(Some("a"), None, NOW + 2 * HOUR, false));
    assert_eq!(through(&shards, &[]), Some(NOW - SLACK), "nothing is read");
    assert_eq!(through(&shards, &[a(true), b.clone(), c]), Some(NOW + 2 * HOUR));
    assert_eq!(through(&shards, &[a(true), b]), Some(NOW + HOUR), "c may hold all since its parent's end");
    assert_eq!(through(&listing(&[("a", None, true)]), &[a(true)]), None, "nothing is left");
    assert_eq!(through(&listing(&[]), &[a(false)]), Some(NOW + HOUR), "it vanished");
}
