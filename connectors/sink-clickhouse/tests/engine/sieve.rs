//! Identities seen through predicates: counts, pages and candidates are what a plain loop over the same identities says.

use std::collections::BTreeMap;

use rollcall_model::{
    Candidate, IdentityState, Listed, ListedPage, Sieve, SiftedCounts, Sighting, Sink, Traits, Value,
};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

/// Even ids are members of segment 1; those below 40 have `n`. Another environment, another segment and a deleted
/// identity stand beside them.
async fn filled(server: &ClickHouse) {
    let mut sink = prepared(server).await;
    let mut batch = Vec::new();
    for id in 1..=100 {
        let traits = if id < 40 { Traits::from([("n".to_owned(), Value::Int(id))]) } else { Traits::new() };
        batch.push(of_identity(live(id, "env1", id, traits.clone())));
        batch.push(of_identity(live(1_000 + id, "env2", id, traits)));
        if id % 2 == 0 {
            batch.push(of_change(change(id, "env1", id, &["1"], &[])));
        } else {
            batch.push(of_change(change(id, "env1", id, &["2"], &[])));
        }
    }
    // Another environment's row of one that is here.
    batch.push(of_change(change(3, "env2", 3, &["1"], &[])));
    // Gone again, with what it was in; and one that entered and left.
    batch.push(of_identity(identity(2, "env1", 200, IdentityState::Deleted)));
    batch.push(of_change(change(2, "env1", 200, &[], &["1"])));
    batch.push(of_change(change(4, "env1", 200, &[], &["1"])));
    sink.write(&batch).await.unwrap();
}

/// Whether an identity of [`filled`] is there and a member of segment 1.
fn expected(segment: Option<&str>, holds: impl Fn(i64) -> bool) -> BTreeMap<String, (bool, bool)> {
    let ids = (1..=100).filter(|id| *id != 2);
    ids.map(|id| (id.to_string(), (holds(id), segment.is_some() && id % 2 == 0 && id != 4))).collect()
}

fn sieve(condition: &str, params: &[(&str, &str)], segment: Option<&str>) -> Sieve {
    Sieve {
        environment_key: "env1".into(),
        condition: condition.into(),
        params: params.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        segment_id: segment.map(Into::into),
    }
}

const BELOW: &str = "ifNull(dynamicElement(i.traits.{p0:Identifier}, 'Int64') < {p1:Int64}, 0)";

#[tokio::test]
async fn counts_and_pages_are_those_of_a_loop() {
    let server = ClickHouse::temporary();
    filled(&server).await;
    let below_20 = sieve(BELOW, &[("p0", "n"), ("p1", "20")], Some("1"));
    for (sieve, holds) in [
        (below_20.clone(), (|id| id < 20) as fn(i64) -> bool),
        (Sieve { segment_id: None, ..below_20 }, |id| id < 20),
        (sieve("1", &[], Some("1")), |_| true),
        (sieve("0", &[], Some("1")), |_| false),
        (sieve("i.identifier = {p0:String}", &[("p0", "user77")], Some("none")), |id| id == 77),
    ] {
        let segment = sieve.segment_id.as_ref().map(|id| id.as_str()).filter(|id| *id == "1");
        let all = expected(segment, holds);
        let mut counts = SiftedCounts::default();
        all.values().for_each(|(holds, is_member)| counts.add(*holds, *is_member));
        for listed in [Listed::Matching, Listed::Entering, Listed::Leaving, Listed::Moving] {
            let wanted: Vec<_> =
                all.iter().filter(|(_, (holds, member))| listed.covers(*holds, *member)).collect();
            for limit in [1, 7, 1_000] {
                let mut found = Vec::new();
                let mut after = None;
                loop {
                    let page = ListedPage { listed, limit, after: after.clone() };
                    let sifted = reader(&server).sift(&sieve, &page).await.unwrap();
                    assert_eq!(sifted.counts, after.is_none().then_some(counts), "{sieve:?}");
                    assert!(sifted.page.len() <= limit as usize);
                    after = sifted.page.last().map(|sighting| sighting.id.clone());
                    if after.is_none() {
                        break;
                    }
                    found.extend(sifted.page);
                }
                let seen: Vec<_> = found.iter().map(|s| (&s.id, (s.holds, s.is_member))).collect();
                let wanted: Vec<_> = wanted.iter().map(|(id, stands)| (*id, **stands)).collect();
                assert_eq!(seen, wanted, "{listed:?} {limit} {sieve:?}");
                for Sighting { id, identifier, identity_key, .. } in &found {
                    assert_eq!((identifier, identity_key), (&format!("user{id}"), &format!("env1_user{id}")));
                }
            }
        }
    }
}

#[tokio::test]
async fn candidates_are_who_may_match_and_who_is_in_with_their_traits() {
    let server = ClickHouse::temporary();
    filled(&server).await;
    let sieve = sieve(BELOW, &[("p0", "n"), ("p1", "20")], Some("1"));
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = reader(&server).candidates(&sieve, after.as_deref(), 9).await.unwrap();
        assert!(page.candidates.len() <= 9);
        after = page.candidates.last().map(|candidate| candidate.sighting.id.clone());
        if after.is_none() {
            assert_eq!(page.bytes, 0);
            break;
        }
        assert!(page.bytes > 0);
        found.extend(page.candidates);
    }
    let all = expected(Some("1"), |id| id < 20);
    let wanted: Vec<_> = all.into_iter().filter(|(_, (holds, is_member))| *holds || *is_member).collect();
    assert_eq!(found.len(), wanted.len());
    for (Candidate { sighting, traits }, (id, stands)) in found.iter().zip(wanted) {
        assert_eq!((&sighting.id, (sighting.holds, sighting.is_member)), (&id, stands));
        let id: i64 = id.parse().unwrap();
        let own = if id < 40 { Traits::from([("n".to_owned(), Value::Int(id))]) } else { Traits::new() };
        assert_eq!(traits, &own, "identity {id}");
    }
}

/// A value is data, whatever it holds: bound with the signs that end texts, parameters, parts and statements elsewhere.
#[tokio::test]
async fn values_are_bound_and_never_spliced() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let strange = "it's \"x\" \\ {p1:String} ; -- \r\n--boundary\t\0ü😀";
    let mut record = live(1, "env1", 1, Traits::new());
    if let IdentityState::Live(image) = &mut record.state {
        image.identifier = strange.into();
    }
    sink.write(&[of_identity(record), of_identity(live(2, "env1", 2, Traits::new()))]).await.unwrap();
    // As TSV writes it.
    let text = strange
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\0', "\\0")
        .replace('\'', "\\'");
    let sieve = sieve("i.identifier = {p0:String}", &[("p0", &text)], None);
    let page = ListedPage { listed: Listed::Matching, limit: 10, after: None };
    let sifted = reader(&server).sift(&sieve, &page).await.unwrap();
    let found: Vec<_> =
        sifted.page.iter().map(|sighting| (sighting.id.as_str(), sighting.identifier.as_str())).collect();
    assert_eq!(found, [("1", strange)]);
}

/// A text as long as the platform allows for an operand.
#[tokio::test]
async fn a_long_value_is_bound_too() {
    let server = ClickHouse::temporary();
    filled(&server).await;
    let texts: Vec<_> = (0..6_000).map(|n| format!("'user{n}'")).collect();
    let texts = format!("[{}]", texts.join(","));
    let sieve = sieve("has({p0:Array(String)}, i.identifier)", &[("p0", &texts)], None);
    let page = ListedPage { listed: Listed::Matching, limit: 10, after: None };
    let sifted = reader(&server).sift(&sieve, &page).await.unwrap();
    assert_eq!(sifted.counts.unwrap().matching, 99);
}

#[tokio::test]
async fn a_predicate_that_the_server_does_not_take_is_a_fault_that_says_so() {
    let server = ClickHouse::temporary();
    filled(&server).await;
    let page = ListedPage { listed: Listed::Matching, limit: 10, after: None };
    let fault = reader(&server).sift(&sieve("nonsense(i.id)", &[], None), &page).await.unwrap_err();
    assert!(fault.to_string().contains("count a draft's identities"), "{fault}");
}
