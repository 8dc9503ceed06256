//! Exports in S3: a real server, and what stands between us and it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rollcall_aws::Credentials;
use rollcall_backfill_s3::{Export, ExportConfig, estimate};
use rollcall_model::{Fault, FaultKind, ItemPages};
use rollcall_test_servers::S3;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{config, ids, pages};
use rollcall_dynamo_sim::export::{Export as Made, ID, PREFIX, deleted, item, numbered, written};

/// Reads the export in a bucket from a server.
fn at(s3: &S3, bucket: &str, url: &str) -> ExportConfig {
    let mut config = config(&format!("s3://{bucket}/{PREFIX}/AWSDynamoDB/{ID}"));
    config.aws.region = "us-east-1".to_owned();
    config.aws.endpoint = Some(url.to_owned());
    config.aws.credentials = Credentials::Static {
        access_key_id: s3.access_key().to_owned(),
        secret_access_key: s3.secret_key().to_owned(),
        session_token: None,
    };
    config
}

fn says(fault: &Fault, kind: FaultKind, what: &str, repair: &str) {
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.what.contains(what), "'{what}' in: {fault}");
    assert!(fault.repair.as_deref().is_some_and(|text| text.contains(repair)), "'{repair}' in: {fault}");
}

/// Items that don't shrink much, so that a file takes many packets.
fn large(items: usize) -> Vec<String> {
    (0..items)
        .map(|n| {
            item(
                &format!(
                    "{:032x}",
                    0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128.wrapping_pow(2 * n as u32 + 1)
                ),
                n,
            )
        })
        .collect()
}

#[tokio::test]
async fn an_export_in_s3_reads_as_one_in_a_folder() {
    let s3 = S3::start();
    let changes = vec![vec![written("a", 1), deleted("b", true)], vec![deleted("c", false)]];
    for (bucket, made) in
        [("full", Made::full(&numbered(&[4, 0, 7, 3]))), ("changes", Made::incremental(&changes))]
    {
        let folder = made.write(&s3.make_bucket(bucket));
        let there = at(&s3, bucket, &s3.url());
        let mut read = pages(&there, None).await.unwrap();
        assert_eq!(read, pages(&crate::at(&folder), None).await.unwrap());
        let told = estimate(&there).await.unwrap();
        assert_eq!(told.items as usize, read.iter().map(|page| page.items.len()).sum::<usize>());
        let first = read.remove(0);
        assert_eq!(pages(&there, Some(first.next)).await.unwrap(), read);
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_says_so() {
    let s3 = S3::start();
    let mut made = Made::full(&numbered(&[4, 7]));
    made.objects.remove(&made.data(1));
    made.write(&s3.make_bucket("exports"));
    let sound = at(&s3, "exports", &s3.url());

    let fault = pages(&sound, None).await.unwrap_err();
    says(&fault, FaultKind::Refused, "0001mvxyz4ym.json.gz is in the manifest but not there", "copy");
    assert!(fault.what.contains("s3://exports/exports/2026"), "{fault}");

    let mut empty = sound.clone();
    empty.location = "s3://exports/elsewhere/AWSDynamoDB/01-a".to_owned();
    says(
        &Export::open(&empty, None).await.unwrap_err(),
        FaultKind::Refused,
        "no DynamoDB export at",
        "EXPORT-ID",
    );
    let mut away = sound.clone();
    away.location = sound.location.replace("s3://exports", "s3://no-such-bucket");
    says(
        &Export::open(&away, None).await.unwrap_err(),
        FaultKind::Config,
        "NoSuchBucket",
        "correct the name",
    );

    let mut stranger = sound.clone();
    stranger.aws.credentials = Credentials::Static {
        access_key_id: s3.access_key().to_owned(),
        secret_access_key: "wrong".to_owned(),
        session_token: None,
    };
    let fault = Export::open(&stranger, None).await.unwrap_err();
    says(&fault, FaultKind::Config, "SignatureDoesNotMatch", "valid credentials");
}

#[tokio::test]
async fn damage_in_s3_is_refused_before_it_is_read() {
    let s3 = S3::start();
    let mut made = Made::full(&numbered(&[4, 50]));
    *made.objects.get_mut(&made.data(1)).unwrap().last_mut().unwrap() ^= 1;
    made.write(&s3.make_bucket("exports"));
    let mut export = Export::open(&at(&s3, "exports", &s3.url()), None).await.unwrap();
    let mut seen = 0;
    let fault = loop {
        match export.next().await {
            Ok(page) => seen += page.items.len(),
            Err(fault) => break fault,
        }
    };
    says(&fault, FaultKind::Refused, "has the md5", "copy the file again");
    assert_eq!(seen, 4);
}

/// Stands before a server, and cuts every connection that brought so many bytes, up to so many times.
async fn cutting(server: String, after: usize, times: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (server, cuts) = (server.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                let (mut far_read, mut far_write) = far.split();
                let (mut near_read, mut near_write) = near.split();
                let there = tokio::io::copy(&mut near_read, &mut far_write);
                let back = async {
                    let (mut buffer, mut brought) = (vec![0; 4096], 0);
                    while let Ok(read @ 1..) = far_read.read(&mut buffer).await {
                        brought += read;
                        if brought > after && cuts.load(Ordering::SeqCst) < times {
                            cuts.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        if near_write.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! { _ = there => {}, () = back => {} }
            });
        }
    });
    (url, cuts)
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let s3 = S3::start();
    let made = Made::full(&[large(6_000)]);
    let size = made.objects[&made.data(0)].len();
    assert!(size > 100_000, "{size}");
    let folder = made.write(&s3.make_bucket("exports"));
    let server = s3.url().replace("http://", "");
    let (url, cuts) = cutting(server, size / 8, 20).await;
    let mut config = at(&s3, "exports", &url);
    config.page_items = 1_000;
    // More cuts than failures in a row are borne: each brought some of it.
    let read = pages(&config, None).await.unwrap();
    assert!(cuts.load(Ordering::SeqCst) >= 7, "{}", cuts.load(Ordering::SeqCst));
    config.location = folder.display().to_string();
    assert_eq!(ids(&read), ids(&pages(&config, None).await.unwrap()));
}

#[tokio::test]
async fn a_server_that_stays_away_is_a_fault_that_passes() {
    let mut s3 = S3::start();
    Made::full(&numbered(&[4, 50])).write(&s3.make_bucket("exports"));
    let mut config = at(&s3, "exports", &s3.url());
    config.files_in_flight_max = 1;
    let mut export = Export::open(&config, None).await.unwrap();
    s3.kill9();
    let fault = export.next().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    s3.start_again();
    let mut seen = Vec::new();
    loop {
        let page = export.next().await.unwrap();
        seen.extend(page.items.iter().map(|item| item.id.to_string()));
        if page.done {
            break;
        }
    }
    assert_eq!(seen.len(), 54);
}

/// Answers everything with an error of S3's.
async fn refusing(status: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let body =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let mut asked = vec![0; 8192];
            let _read = near.read(&mut asked).await;
            let _written = near.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let mut config = config("s3://b/p/AWSDynamoDB/01-a");
    config.aws.endpoint = Some(refusing("403 Forbidden", "AccessDenied").await);
    let fault = Export::open(&config, None).await.unwrap_err();
    says(&fault, FaultKind::Config, "s3:GetObject", "s3:ListBucket on arn:aws:s3:::b");
    config.aws.endpoint = Some(refusing("403 Forbidden", "InvalidAccessKeyId").await);
    let fault = Export::open(&config, None).await.unwrap_err();
    says(&fault, FaultKind::Config, "InvalidAccessKeyId", "valid credentials");
    config.aws.endpoint = Some(refusing("301 Moved Permanently", "PermanentRedirect").await);
    let fault = Export::open(&config, None).await.unwrap_err();
    says(&fault, FaultKind::Config, "PermanentRedirect", "region of the bucket b");
    config.aws.endpoint = Some(refusing("412 Precondition Failed", "PreconditionFailed").await);
    let fault = Export::open(&config, None).await.unwrap_err();
    says(&fault, FaultKind::Refused, "changed while it was read", "start the backfill again");
}
