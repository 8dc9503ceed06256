//! The loop that changes a table, on a store that fails at every point.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rollcall_model::archive::Cut;
use rollcall_model::{FaultKind, LogId, Partition, Place, Seq, Topic};
use tempfile::TempDir;

use super::*;
use crate::manifest::Addition;
use crate::objects::Object;
use crate::test_kit::{in_folder, says};

/// What happens at the next puts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Fine,
    /// Fails before anything is written.
    Fails,
    /// Writes, and the answer is lost.
    AnswerLost,
}

/// A store in memory, two names per page.
#[derive(Clone, Default)]
struct Store {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    next: Arc<Mutex<Vec<Next>>>,
    overwrites: bool,
}

impl ManifestStore for Store {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Fault> {
        let objects = self.objects.lock().unwrap();
        let mut keys = objects
            .keys()
            .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        let page: Vec<Object> =
            keys.by_ref().take(2).map(|key| Object { key: key.clone(), bytes: 0, modified_us: 0 }).collect();
        let next = keys.next().and(page.last()).map(|object| object.key.clone());
        Ok(Page { objects: page, next })
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        Ok(self.objects.lock().unwrap().get(key).cloned())
    }
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, Fault> {
        let next = self.next.lock().unwrap().pop().unwrap_or(Next::Fine);
        if next == Next::Fails {
            return Err(Fault::retry("the store is away"));
        }
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key) && !self.overwrites {
            return Ok(Put::AlreadyThere);
        }
        objects.insert(key.to_owned(), bytes);
        if next == Next::AnswerLost { Err(Fault::retry("the answer is lost")) } else { Ok(Put::Written) }
    }
    async fn is_there(&self, key: &str) -> Result<bool, Fault> {
        Ok(self.objects.lock().unwrap().contains_key(key))
    }
    fn name(&self, key: &str) -> String {
        key.to_owned()
    }
}

const TABLE: &str = "identities";

fn begun(writer: &str) -> Manifest {
    Manifest::begin((TABLE, 1), &LogId("log".to_owned()), writer, 1)
}

fn addition(partition: u16, first: u64, last: u64) -> Addition {
    let cut = Cut {
        topic: Topic::Identities,
        partition: Partition(partition),
        first: Seq(first),
        last: Seq(last),
        until: Place::default(),
    };
    Addition { cut, file: None }
}

async fn append<S: ManifestStore>(tables: &Tables<S>, addition: Addition) -> Result<Option<Numbered>, Fault> {
    tables
        .change(TABLE, None, |current| match current {
            Some(current) => current.append(std::slice::from_ref(&addition), 2),
            None => begun("lake").append(std::slice::from_ref(&addition), 2),
        })
        .await
}

#[tokio::test]
async fn the_highest_number_is_the_truth() {
    let store = Store::default();
    let tables = Tables::new(store.clone());
    assert_eq!(tables.newest(TABLE, None).await.unwrap(), None);
    for n in 1..=11 {
        let made = append(&tables, addition(0, n, n)).await.unwrap().unwrap();
        assert_eq!((made.number, made.manifest.covered(Partition(0)).seq), (n, Seq(n)));
    }
    store.objects.lock().unwrap().insert("identities/manifests/notes.txt".to_owned(), Bytes::new());
    for known in [None, Some(1), Some(7), Some(11)] {
        assert_eq!(tables.newest(TABLE, known).await.unwrap().unwrap().number, 11, "{known:?}");
    }
    assert_eq!(tables.numbered(TABLE, 4).await.unwrap().unwrap().covered(Partition(0)).seq, Seq(4));
    assert_eq!(tables.numbered(TABLE, 12).await.unwrap(), None);
}

/// One that slept for so long that the number it was about to take had been taken and removed.
#[tokio::test]
async fn a_number_that_was_given_and_removed_is_not_given_again() {
    let store = Store::default();
    let tables = Tables::new(store.clone());
    append(&tables, addition(0, 1, 1)).await.unwrap();
    let mut slept = false;
    let ours = addition(1, 1, 4);
    let made = tables.change(TABLE, None, |current| {
        let next = current.unwrap().append(std::slice::from_ref(&ours), 2);
        if !std::mem::replace(&mut slept, true) {
            let mut objects = store.objects.lock().unwrap();
            for number in 3..=5 {
                let other = current.unwrap().append(&[addition(0, 2, number)], 2).unwrap().unwrap();
                objects.insert(key_of(TABLE, number), other.text().unwrap().into());
            }
        }
        next
    });
    let made = made.await.unwrap().unwrap();
    assert_eq!(made.number, 6);
    assert_eq!(made.manifest.covered(Partition(0)).seq, Seq(5), "what the others did stands");
    assert_eq!(made.manifest.covered(Partition(1)).seq, Seq(4));
}

#[tokio::test]
async fn a_put_that_fails_before_or_after_it_was_done_lists_a_cut_once() {
    for faults in [
        vec![],
        vec![Next::Fails],
        vec![Next::AnswerLost],
        vec![Next::Fails, Next::Fails, Next::AnswerLost],
        vec![Next::AnswerLost, Next::Fails],
    ] {
        let store = Store::default();
        let tables = Tables::new(store.clone());
        append(&tables, addition(0, 1, 5)).await.unwrap();
        *store.next.lock().unwrap() = faults.iter().rev().copied().collect();
        let mut failures = 0;
        let made = loop {
            match append(&tables, addition(0, 6, 9)).await {
                Ok(made) => break made.unwrap(),
                Err(fault) => {
                    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
                    failures += 1;
                }
            }
        };
        assert!(failures <= faults.len(), "{faults:?}");
        assert_eq!((made.number, made.manifest.covered(Partition(0)).seq), (2, Seq(9)), "{faults:?}");
        assert_eq!(store.objects.lock().unwrap().len(), 2, "{faults:?}");
    }
}

#[tokio::test]
async fn two_that_write_at_once_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let objects = Objects::open(&in_folder(&folder.path().join("lake"))).await.unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for partition in 0..8 {
        let tables = Tables::new(objects.clone());
        racing.spawn(async move {
            for seq in 1..=4 {
                append(&tables, addition(partition, seq, seq)).await.unwrap();
            }
        });
    }
    racing.join_all().await;
    let newest = Tables::new(objects).newest(TABLE, None).await.unwrap().unwrap();
    assert_eq!(newest.number, 32);
    for partition in 0..8 {
        assert_eq!(newest.manifest.covered(Partition(partition)).seq, Seq(4));
    }
}

#[tokio::test]
async fn of_two_that_begin_a_table_one_is_told() {
    let store = Store::default();
    let tables = Tables::new(store.clone());
    let claim = |writer: &'static str| {
        tables.change(TABLE, None, move |current| Ok(current.is_none().then(|| begun(writer))))
    };
    assert_eq!(claim("one").await.unwrap().unwrap().manifest.writer, "one");
    assert_eq!(claim("two").await.unwrap().unwrap().manifest.writer, "one");
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let store = Store::default();
    let made = append(&Tables::new(store.clone()), addition(0, 1, 5)).await.unwrap().unwrap();
    Tables::new(store.clone()).gives_names_once(&made).await.unwrap();
    let before = store.objects.lock().unwrap().clone();
    let careless = Tables::new(Store { overwrites: true, ..store.clone() });
    let fault = careless.gives_names_once(&made).await.unwrap_err();
    says(&fault, FaultKind::Config, "If-None-Match", "conditional writes");
    assert_eq!(*store.objects.lock().unwrap(), before, "and nothing was lost by trying");
}
