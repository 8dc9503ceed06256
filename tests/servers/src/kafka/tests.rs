//! What needs Kafka's wire to be seen: users and their rights, proxies' addresses, TLS.

use std::io::Result;

use super::wire::Connection;
use super::*;

const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

fn with_users(users: &[(&str, &str)]) -> KafkaSettings {
    let users = users.iter().map(|(user, password)| ((*user).into(), (*password).into())).collect();
    KafkaSettings { users, ..KafkaSettings::default() }
}

/// The codes of the handshake and of the first step of a mechanism, and what the broker says to the latter.
fn authenticate(connection: &mut Connection, mechanism: &str, token: &str) -> Result<(i16, i16, String)> {
    let mut body = Vec::new();
    wire::put_string(&mut body, mechanism);
    let handshake = connection.ask(SASL_HANDSHAKE, 1, &body)?.int16()?;
    let length = i32::try_from(token.len()).unwrap();
    let body = [&length.to_be_bytes()[..], token.as_bytes()].concat();
    let mut answer = connection.ask(SASL_AUTHENTICATE, 0, &body)?;
    let (code, _message) = (answer.int16()?, answer.string()?);
    Ok((handshake, code, answer.rest_as_text()))
}

/// The code of a request that needs the right to describe the cluster.
fn describe_acls(connection: &mut Connection) -> i16 {
    // Any resource, name, pattern, principal, host, operation and permission.
    let any = [1, 255, 255, 1, 255, 255, 255, 255, 1, 1];
    let mut answer = connection.ask(acl::DESCRIBE_ACLS, acl::VERSION, &any).unwrap();
    answer.int32().unwrap(); // throttled
    answer.int16().unwrap()
}

#[test]
fn users_are_known_by_each_mechanism_and_may_do_what_they_are_allowed() {
    let kafka = Kafka::start_with(with_users(&[("admin", "of-the-admin"), ("ann", "of-ann")]));
    assert_ne!(kafka.brokers(), kafka.brokers_sasl());
    let port = kafka.nodes[0].ports.sasl.unwrap();
    let open = || Connection::open(port).unwrap();

    let wrong = authenticate(&mut open(), "PLAIN", "\0ann\0wrong").unwrap();
    assert_eq!((wrong.0, wrong.1), (0, SASL_AUTHENTICATION_FAILED));
    let (mut ann, mut admin, mut by_token) = (open(), open(), open());
    assert_eq!(authenticate(&mut ann, "PLAIN", "\0ann\0of-ann").unwrap().1, 0);
    assert_eq!(authenticate(&mut admin, "PLAIN", "\0admin\0of-the-admin").unwrap().1, 0);
    // {"alg":"none"}.{"sub":"ann","iat":1700000000,"exp":9999999999}.
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6OTk5OTk5OTk5OX0.";
    let token = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
    assert_eq!(authenticate(&mut by_token, "OAUTHBEARER", &token).unwrap().1, 0);
    // The first of two steps: the salt of a user that Kafka knows.
    let scram = authenticate(&mut open(), "SCRAM-SHA-256", "n,,n=ann,r=abcdef").unwrap();
    assert_eq!((scram.0, scram.1), (0, 0));
    assert!(scram.2.contains("r=abcdef") && scram.2.contains(",s=") && scram.2.contains(",i="), "{scram:?}");
    let nobody = authenticate(&mut open(), "SCRAM-SHA-256", "n,,n=nobody,r=abcdef").unwrap();
    assert_eq!(nobody.1, SASL_AUTHENTICATION_FAILED);

    assert_eq!(describe_acls(&mut admin), 0);
    for connection in [&mut ann, &mut by_token] {
        assert_eq!(describe_acls(connection), CLUSTER_AUTHORIZATION_FAILED);
        kafka.allow("ann", AclResource::Cluster, AclOperation::Describe);
        assert_eq!(describe_acls(connection), 0);
        kafka.disallow("ann", AclResource::Cluster, AclOperation::Describe);
        assert_eq!(describe_acls(connection), CLUSTER_AUTHORIZATION_FAILED);
    }
}

#[test]
fn a_listener_behind_a_proxy_advertises_the_proxy() {
    // Two listeners on each of two nodes.
    let proxied_listeners = vec![7001, 7002, 7003, 7004];
    let settings = KafkaSettings { nodes: 2, proxied_listeners, ..KafkaSettings::default() };
    let kafka = Kafka::start_with(settings);
    for (entry, seen) in [[7001, 7002], [7001, 7002], [7003, 7004], [7003, 7004]].into_iter().enumerate() {
        let brokers = wire::brokers(kafka.proxied(entry).port()).unwrap();
        let mut ports: Vec<i32> = brokers.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        assert_eq!(ports, seen);
    }
    let addresses: std::collections::BTreeSet<SocketAddr> = (0..4).map(|n| kafka.proxied(n)).collect();
    assert_eq!(addresses.len(), 4);
    let own = wire::brokers(kafka.nodes[0].ports.plain).unwrap();
    assert!(own.iter().any(|(id, port)| *id == 1 && *port == i32::from(kafka.nodes[0].ports.plain)));
}

#[test]
fn the_listener_with_tls_shows_the_certificate_that_clients_are_to_trust() {
    let kafka = Kafka::start_with(KafkaSettings { tls: true, ..KafkaSettings::default() });
    let mut keytool = Command::new("keytool");
    keytool.args(["-printcert", "-rfc", "-sslserver", &kafka.brokers_tls()]);
    let output = keytool.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let trusted = std::fs::read_to_string(kafka.ca_path()).unwrap();
    assert!(trusted.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(shown.contains(trusted.trim_end()), "{shown}");
}
