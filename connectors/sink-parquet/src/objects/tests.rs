//! Both kinds, on a folder and on a real S3 server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use rollcall_test_servers::S3;
use tempfile::TempDir;

use super::*;
use crate::test_kit::{in_bucket, in_folder, says};

/// Both kinds, and what they stand on.
struct Both {
    s3: S3,
    folder: TempDir,
    objects: Vec<Objects>,
}

impl Both {
    async fn open() -> Self {
        let (s3, folder) = (S3::start(), TempDir::new().unwrap());
        s3.make_bucket("lakes");
        let bucket = Objects::open(&in_bucket(&s3, "lakes", folder.path())).await.unwrap();
        let local = Objects::open(&in_folder(&folder.path().join("a/lake"))).await.unwrap();
        Self { s3, folder, objects: vec![bucket, local] }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

async fn keys(objects: &Objects, prefix: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = objects.list(prefix, after.as_deref()).await.unwrap();
        all.extend(page.objects.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn read(objects: &Objects, key: &str) -> Option<Vec<u8>> {
    objects.get(key, 1 << 20).await.unwrap().map(|bytes| bytes.to_vec())
}

#[tokio::test]
async fn a_name_is_given_once() {
    let both = Both::open().await;
    for objects in &both.objects {
        let put = |text: &'static str| objects.put_if_absent("t/m/1.json", Bytes::from(text));
        assert_eq!(put("first").await.unwrap(), Put::Written);
        assert_eq!(put("second").await.unwrap(), Put::AlreadyThere);
        assert_eq!(read(objects, "t/m/1.json").await.unwrap(), b"first");
        let racers: Vec<String> = (0..8).map(|n| format!("racer {n}")).collect();
        let mut racing = tokio::task::JoinSet::new();
        for text in racers {
            let objects = objects.clone();
            racing
                .spawn(async move { objects.put_if_absent("t/m/2.json", Bytes::from(text)).await.unwrap() });
        }
        let puts = racing.join_all().await;
        assert_eq!(puts.iter().filter(|put| **put == Put::Written).count(), 1, "{puts:?}");
    }
}

#[tokio::test]
async fn objects_are_read_listed_and_removed() {
    let both = Both::open().await;
    for objects in &both.objects {
        for key in ["t/b/1", "t/b/2", "t/a", "u/1", "t/b2"] {
            objects.put_if_absent(key, Bytes::from(key.to_owned())).await.unwrap();
        }
        assert_eq!(keys(objects, "t/b/").await, ["t/b/1", "t/b/2"]);
        assert_eq!(keys(objects, "t/").await, ["t/a", "t/b/1", "t/b/2", "t/b2"]);
        assert_eq!(keys(objects, "nothing/").await, [""; 0]);
        let later = objects.list("t/", Some("t/b/1")).await.unwrap().objects;
        assert_eq!(later.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["t/b/2", "t/b2"]);
        let about = objects.head("t/b/1").await.unwrap().unwrap();
        assert_eq!((about.key.as_str(), about.bytes), ("t/b/1", 5));
        let age_us = crate::clock::now_us() - about.modified_us;
        assert!((-2_000_000..600_000_000).contains(&age_us), "{age_us}");
        assert_eq!(objects.head("t/b/3").await.unwrap(), None);
        assert_eq!(read(objects, "t/b/3").await, None);
        let to = both.folder.path().join("copy");
        assert_eq!(objects.download("t/b/3", &to).await.unwrap(), None);
        assert_eq!(objects.download("t/b/2", &to).await.unwrap(), Some(5));
        assert_eq!(std::fs::read(&to).unwrap(), b"t/b/2");
        let fault = objects.get("t/b/2", 4).await.unwrap_err();
        says(&fault, FaultKind::Refused, "more than 4 bytes", "compact");
        objects.delete("t/b/1").await.unwrap();
        objects.delete("t/b/1").await.unwrap();
        assert_eq!(keys(objects, "t/b/").await, ["t/b/2"]);
        assert!(objects.ahead_us().is_some_and(|us| us.abs() < 5_000_000));
    }
}

#[tokio::test]
async fn a_listing_goes_on_over_pages() {
    let both = Both::open().await;
    let bucket = both.s3.folder().join("lakes/deep/lake/many");
    std::fs::create_dir_all(&bucket).unwrap();
    let names: Vec<String> = (0..2_500).map(|n| format!("many/{n:05}")).collect();
    for name in &names {
        std::fs::write(bucket.join(&name[5..]), "x").unwrap();
    }
    assert_eq!(keys(&both.objects[0], "many/").await, names);
}

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test]
async fn files_of_any_size_arrive_whole_and_once() {
    let both = Both::open().await;
    let to = both.folder.path().join("copy");
    for (name, size) in [("empty", 0), ("small", 1_000), ("parts", (17 << 20) + 3)] {
        let content = bytes(size);
        let file = both.file(name, &content);
        for objects in &both.objects {
            assert_eq!(objects.upload_file(name, &file).await.unwrap(), Put::Written);
            assert_eq!(objects.upload_file(name, &file).await.unwrap(), Put::AlreadyThere);
            assert_eq!(objects.download(name, &to).await.unwrap(), Some(size as u64));
            assert!(std::fs::read(&to).unwrap() == content, "{name}");
        }
    }
    let Objects::Bucket(bucket) = &both.objects[0] else { panic!("a bucket comes first") };
    assert_eq!(bucket.uploads("").await.unwrap().len(), 0, "nothing is left of the parts");
}

#[tokio::test]
async fn what_has_the_name_but_not_the_size_is_refused() {
    let both = Both::open().await;
    let file = both.file("whole", b"whole content");
    for objects in &both.objects {
        objects.put_if_absent("t/whole", Bytes::from_static(b"whole")).await.unwrap();
        let fault = objects.upload_file("t/whole", &file).await.unwrap_err();
        says(&fault, FaultKind::Refused, "is 5 bytes", "made again");
    }
}

#[tokio::test]
async fn an_upload_that_a_kill_left_is_ended_by_its_heir_or_by_age() {
    let both = Both::open().await;
    let Objects::Bucket(bucket) = &both.objects[0] else { panic!("a bucket comes first") };
    let content = bytes(9 << 20);
    let file = both.file("large", &content);
    for key in ["t/large", "t/larger", "t/other"] {
        let begun = bucket.client.create_multipart_upload().bucket("lakes").key(bucket.key(key));
        Box::pin(begun.send()).await.unwrap();
    }
    // An hour has not passed: a living writer's, for all we know.
    assert_eq!(both.objects[0].abort_uploads("t/").await.unwrap(), 0);
    assert_eq!(both.objects[0].upload_file("t/large", &file).await.unwrap(), Put::Written);
    let left: Vec<String> = bucket.uploads("t/").await.unwrap().into_iter().map(|u| u.key).collect();
    assert_eq!(left, ["t/larger", "t/other"]);
    assert_eq!(bucket.abort_uploads("t/", -60_000_000).await.unwrap(), 2);
    assert_eq!(bucket.uploads("").await.unwrap().len(), 0);

    let lake = both.folder.path().join("a/lake");
    std::fs::create_dir_all(lake.join("t")).unwrap();
    let unfinished = lake.join("t/.unfinished-abc");
    std::fs::write(&unfinished, "half").unwrap();
    assert_eq!(keys(&both.objects[1], "").await, [""; 0]);
    assert_eq!(both.objects[1].abort_uploads("t/").await.unwrap(), 0);
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3_700);
    std::fs::File::options().write(true).open(&unfinished).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(both.objects[1].abort_uploads("t/").await.unwrap(), 1);
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_bucket_that_is_missing_or_closed_says_so() {
    let both = Both::open().await;
    let file = both.file("small", b"small");
    let missing = in_bucket(&both.s3, "nowhere", both.folder.path());
    let objects = Objects::open(&missing).await.unwrap();
    for fault in [
        objects.put_if_absent("a", Bytes::new()).await.unwrap_err(),
        objects.list("a/", None).await.unwrap_err(),
        objects.get("a", 1).await.unwrap_err(),
        objects.upload_file("a", &file).await.unwrap_err(),
        objects.abort_uploads("a").await.unwrap_err(),
    ] {
        says(&fault, FaultKind::Config, "NoSuchBucket", "aws s3 mb s3://nowhere --region us-east-1");
    }
    let mut stranger = in_bucket(&both.s3, "lakes", both.folder.path());
    if let rollcall_aws::Credentials::Static { secret_access_key, .. } = &mut stranger.aws.credentials {
        "wrong".clone_into(secret_access_key);
    }
    let objects = Objects::open(&stranger).await.unwrap();
    let fault = objects.put_if_absent("a", Bytes::new()).await.unwrap_err();
    says(&fault, FaultKind::Config, "SignatureDoesNotMatch", "valid credentials");
    let fault = objects.head("a").await.unwrap_err();
    says(&fault, FaultKind::Config, "deep/lake/a", "allow s3:GetObject on arn:aws:s3:::lakes/deep/lake/*");
}

/// A store that answers every request in the same words; where it listens.
fn answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8_192];
            let _length = stream.read(&mut request);
            let length = body.len();
            let _sent = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

#[tokio::test]
async fn what_is_not_allowed_names_action_and_resource() {
    let both = Both::open().await;
    let mut config = in_bucket(&both.s3, "lakes", both.folder.path());
    config.aws.endpoint =
        Some(answers("403 Forbidden", "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"));
    let objects = Objects::open(&config).await.unwrap();
    let fault = objects.put_if_absent("a", Bytes::new()).await.unwrap_err();
    says(&fault, FaultKind::Config, "s3:PutObject on arn:aws:s3:::lakes/deep/lake/*", "\"s3:PutObject\"");
    let fault = objects.list("a", None).await.unwrap_err();
    says(&fault, FaultKind::Config, "s3:ListBucket on arn:aws:s3:::lakes is", "\"s3:ListBucket\"");
    let fault = objects.delete("a").await.unwrap_err();
    says(&fault, FaultKind::Config, "s3:DeleteObject", "\"s3:DeleteObject\"");
    config.aws.endpoint = Some(answers(
        "501 Not Implemented",
        "<Error><Code>NotImplemented</Code><Message>no</Message></Error>",
    ));
    let fault = Objects::open(&config).await.unwrap().put_if_absent("a", Bytes::new()).await.unwrap_err();
    says(&fault, FaultKind::Config, "NotImplemented", "If-None-Match");
}

#[tokio::test]
async fn a_store_that_is_away_may_come_back() {
    let mut both = Both::open().await;
    both.s3.kill9();
    let objects = &both.objects[0];
    let fault = objects.put_if_absent("a", Bytes::new()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert!(fault.message().contains("s3://lakes/deep/lake/a"), "{fault}");
    both.s3.start_again();
    assert_eq!(objects.put_if_absent("a", Bytes::new()).await.unwrap(), Put::Written);
}

#[tokio::test]
async fn a_folder_that_can_not_be_one_says_so() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let fault = Objects::open(&in_folder(&file.join("lake"))).await.unwrap_err();
    says(&fault, FaultKind::Config, "file/lake", "chown");
    let objects = Objects::open(&in_folder(&folder.path().join("lake"))).await.unwrap();
    let absent = objects.upload_file("a", &folder.path().join("none")).await.unwrap_err();
    assert!(absent.message().contains("spool file"), "{absent}");
}

/// Two that look whether the object is there, and neither finds it, both upload it.
#[tokio::test]
async fn of_two_uploads_in_parts_the_later_finds_the_name_taken() {
    let both = Both::open().await;
    let Objects::Bucket(bucket) = &both.objects[0] else { panic!("a bucket comes first") };
    let content = bytes(6 << 20);
    let file = both.file("large", &content);
    let begun = bucket.client.create_multipart_upload().bucket("lakes").key(bucket.key("t/large"));
    let id = Box::pin(begun.send()).await.unwrap().upload_id.unwrap();
    let parts = bucket.send_parts("t/large", &id, &file, 6 << 20).await.unwrap();
    both.objects[0].put_if_absent("t/large", Bytes::from_static(b"first")).await.unwrap();
    let put = bucket.complete("t/large", &id, parts, 6 << 20).await;
    assert_eq!(put.unwrap(), Put::AlreadyThere);
    assert_eq!(read(&both.objects[0], "t/large").await.unwrap(), b"first");
}
