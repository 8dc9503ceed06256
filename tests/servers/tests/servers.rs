//! The servers start, keep their data over a crash, and go away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rollcall_test_servers::{
    DynamoDb, Kafka, Ministack, MinistackSettings, PgVersion, Postgres, S3, cached, python,
};

#[test]
fn postgres_of_both_versions_keeps_its_data_over_a_crash() {
    for (version, major) in [(PgVersion::V15, "15"), (PgVersion::V18, "18")] {
        let mut postgres = Postgres::start(version, &[("max_replication_slots", "12")]);
        assert!(postgres.psql("SHOW server_version").starts_with(major));
        assert_eq!(postgres.psql("SHOW wal_level"), "logical");
        assert_eq!(postgres.psql("SHOW max_replication_slots"), "12", "the test's settings win");
        postgres.psql("CREATE TABLE kept(n int); INSERT INTO kept VALUES (7)");
        postgres.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
        let (url, pid) = (postgres.url(), postgres.pid());
        postgres.kill9();
        assert!(postgres.try_psql(&url, "SELECT 1").is_err());
        postgres.start_again();
        assert_ne!(postgres.pid(), pid);
        assert_eq!(postgres.psql("SELECT n FROM kept"), "7");
        postgres.restart();
        assert_eq!(postgres.psql("SELECT count(*) FROM pg_replication_slots"), "1");

        let (data, pid) = (postgres.data_path(), postgres.pid());
        drop(postgres);
        assert!(!data.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_wrong_password_is_refused_where_passwords_are_asked_for() {
    let postgres = Postgres::start_with_passwords(PgVersion::V15, &[]);
    assert_eq!(postgres.psql("SELECT 1"), "1");
    let error = postgres.try_psql(&postgres.url_of("postgres", "wrong", "postgres"), "SELECT 1");
    assert!(error.is_err_and(|error| error.contains("password authentication failed")));
}

#[test]
fn two_servers_have_ports_and_data_of_their_own() {
    let (one, two) = (Postgres::start(PgVersion::V15, &[]), Postgres::start(PgVersion::V15, &[]));
    one.psql("CREATE TABLE only_here()");
    assert_eq!(two.psql("SELECT count(*) FROM pg_class WHERE relname = 'only_here'"), "0");
}

#[test]
fn the_reference_rules_engine_can_be_asked() {
    let output = Command::new(python())
        .args(["-c", "import flag_engine.segments.evaluator"])
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a broker answers to the oldest request for the versions of requests it knows: it must be none of an error.
fn answers_as_kafka(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // Length, ApiVersions, version 0, number 7, no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255]).expect("it reads");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).expect("it answers");
    answer[4..] == [0, 0, 0, 7, 0, 0]
}

#[test]
fn kafka_keeps_its_ports_over_a_stop_and_a_crash() {
    let mut kafka = Kafka::start();
    assert_eq!(kafka.nodes(), [1]);
    let (address, pid) = (kafka.brokers(), kafka.pid(1));
    assert!(answers_as_kafka(&address));
    kafka.kill9(1);
    assert!(!answers_as_kafka(&address));
    kafka.start_again(1);
    assert_ne!(kafka.pid(1), pid);
    assert!(answers_as_kafka(&address));
    kafka.restart(1);
    assert_eq!(kafka.brokers(), address);
    assert!(answers_as_kafka(&address));

    let (data, pid) = (kafka.data_path(1), kafka.pid(1));
    drop(kafka);
    assert!(!data.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_cluster_of_kafka_goes_on_without_one_node_and_comes_back_from_none() {
    let mut kafka = Kafka::start_nodes(3);
    let brokers = kafka.brokers();
    let addresses: Vec<&str> = brokers.split(',').collect();
    assert_eq!((kafka.nodes(), addresses.len()), (vec![1, 2, 3], 3));
    kafka.kill9(2);
    assert_eq!(addresses.iter().map(|a| answers_as_kafka(a)).collect::<Vec<bool>>(), [true, false, true]);
    kafka.start_again(2);
    assert!(addresses.iter().all(|address| answers_as_kafka(address)));
    for node in kafka.nodes() {
        kafka.kill9(node);
    }
    kafka.start_all();
    assert_eq!(kafka.brokers(), brokers);
    assert!(addresses.iter().all(|address| answers_as_kafka(address)));
}

/// The first text under a key.
fn text_at(json: &str, key: &str) -> String {
    let after = json.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {json}")).1;
    after.split('"').nth(1).expect("a text").to_owned()
}

/// What a request for an iterator at the beginning of the stream's first shard says.
fn of_the_beginning(stream: &str, shards: &str) -> String {
    let shard = text_at(shards, "ShardId");
    format!(r#"{{"StreamArn": "{stream}", "ShardId": "{shard}", "ShardIteratorType": "TRIM_HORIZON"}}"#)
}

/// How many records the stream has, from its beginning, as a client reads it.
fn stream_records(dynamodb: &DynamoDb, stream: &str) -> usize {
    let shards = dynamodb.request("DescribeStream", &format!(r#"{{"StreamArn": "{stream}"}}"#));
    let iterator = dynamodb.request("GetShardIterator", &of_the_beginning(stream, &shards));
    let records = dynamodb.request("GetRecords", &at(&text_at(&iterator, "ShardIterator")));
    records.matches("\"eventName\"").count()
}

fn at(iterator: &str) -> String {
    format!(r#"{{"ShardIterator": "{iterator}"}}"#)
}

fn item(identifier: &str) -> String {
    format!(
        r#"{{"TableName": "identities", "Item": {{
            "composite_key": {{"S": "env_{identifier}"}},
            "environment_api_key": {{"S": "env"}},
            "identifier": {{"S": "{identifier}"}}
        }}}}"#
    )
}

#[test]
fn dynamodb_in_files_keeps_tables_and_streams_over_a_crash_and_in_memory_does_not() {
    for is_durable in [true, false] {
        let mut dynamodb = if is_durable { DynamoDb::start_durable() } else { DynamoDb::start() };
        let stream = dynamodb.create_identities_table("identities");
        let table = dynamodb.request("DescribeTable", r#"{"TableName": "identities"}"#);
        assert!(
            table.contains(
                r#""StreamSpecification":{"StreamEnabled":true,"StreamViewType":"NEW_AND_OLD_IMAGES"}"#
            ),
            "{table}"
        );
        assert!(table.contains(&stream) && table.contains("environment_api_key-identifier-index"), "{table}");
        assert_eq!(dynamodb.request("PutItem", &item("one")), "{}");
        assert_eq!(stream_records(&dynamodb, &stream), 1);

        let (url, pid) = (dynamodb.url(), dynamodb.pid());
        dynamodb.kill9();
        dynamodb.start_again();
        assert_ne!(dynamodb.pid(), pid);
        assert_eq!(dynamodb.url(), url);
        let tables = dynamodb.request("ListTables", "{}");
        if is_durable {
            assert_eq!(tables, r#"{"TableNames":["identities"]}"#);
            assert_eq!(dynamodb.request("PutItem", &item("two")), "{}");
            assert_eq!(stream_records(&dynamodb, &stream), 2);
        } else {
            assert_eq!(tables, r#"{"TableNames":[]}"#);
        }

        let pid = dynamodb.pid();
        drop(dynamodb);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn ministack_forgets_records_and_iterators_when_it_is_told_to() {
    let (retention_s, iterator_life_s) = (2.0, 1_000.0);
    let ministack = Ministack::start(MinistackSettings { retention_s, iterator_life_s });
    let stream = ministack.create_identities_table("identities");
    let shards = ministack.request("DescribeStream", &format!(r#"{{"StreamArn": "{stream}"}}"#));
    let iterator = ministack.request("GetShardIterator", &of_the_beginning(&stream, &shards));
    let old = at(&text_at(&iterator, "ShardIterator"));
    assert_eq!(ministack.request("PutItem", &item("one")), "{}");
    sleep(Duration::from_secs_f64(retention_s + 1.5));
    let refusal = ministack.refusal("GetRecords", &old);
    assert!(refusal.contains("TrimmedDataAccessException"), "{refusal}");

    let ministack = Ministack::start(MinistackSettings { iterator_life_s: 0.1, ..Default::default() });
    let stream = ministack.create_identities_table("identities");
    let shards = ministack.request("DescribeStream", &format!(r#"{{"StreamArn": "{stream}"}}"#));
    let iterator = ministack.request("GetShardIterator", &of_the_beginning(&stream, &shards));
    sleep(Duration::from_millis(200));
    let refusal = ministack.refusal("GetRecords", &at(&text_at(&iterator, "ShardIterator")));
    assert!(refusal.contains("ExpiredIteratorException"), "{refusal}");

    let pid = ministack.pid();
    drop(ministack);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// Reads an object of the bucket `exports` and writes what it read to another, with AWS's own client, which ministack
/// brings. Says what it read, or what was refused.
fn copy_object(s3: &S3, secret_key: &str, from: &str, to: &str) -> String {
    let script = "import sys, botocore.session, botocore.exceptions
url, access_key, secret_key, source, target = sys.argv[1:]
client = botocore.session.Session().create_client('s3', endpoint_url=url, region_name='us-east-1',
    aws_access_key_id=access_key, aws_secret_access_key=secret_key)
try:
    body = client.get_object(Bucket='exports', Key=source)['Body'].read()
    client.put_object(Bucket='exports', Key=target, Body=body)
    print(body.decode(), end='')
except botocore.exceptions.ClientError as error:
    print(error.response['Error']['Code'], end='')";
    let output = Command::new(cached("ministack/bin/python"))
        .args(["-c", script, &s3.url(), s3.access_key(), secret_key, from, to])
        .env_clear() // no proxy, no profile
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn s3_serves_its_folder_and_keeps_it_over_a_crash() {
    let mut s3 = S3::start();
    let bucket = s3.make_bucket("exports");
    assert_eq!(bucket, s3.folder().join("exports"));
    std::fs::write(bucket.join("one"), "1").expect("a file in a bucket");
    assert_eq!(copy_object(&s3, s3.secret_key(), "one", "a/two"), "1");
    assert_eq!(std::fs::read_to_string(bucket.join("a/two")).expect("a file in a bucket"), "1");
    assert_eq!(copy_object(&s3, s3.secret_key(), "none", "two"), "NoSuchKey");
    assert_eq!(copy_object(&s3, "another", "one", "two"), "SignatureDoesNotMatch");

    let (url, pid) = (s3.url(), s3.pid());
    s3.kill9();
    s3.start_again();
    assert_ne!(s3.pid(), pid);
    assert_eq!(s3.url(), url);
    assert_eq!(copy_object(&s3, s3.secret_key(), "a/two", "three"), "1");

    let (folder, pid) = (s3.folder(), s3.pid());
    drop(s3);
    assert!(!folder.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
}
