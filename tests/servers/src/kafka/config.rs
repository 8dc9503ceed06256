//! What a node of Kafka is told: its listeners, and defaults under which tests are fast.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Any id will do: 16 bytes as Kafka writes them.
pub(super) const CLUSTER_ID: &str = "cm9sbGNhbGwtdGVzdHMtMQ";

/// What a test wants of its Kafka beyond the defaults.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// How many nodes; from three on, topics are kept three times and a write needs two of them.
    pub nodes: usize,
    /// Server properties. They come after ours and win over them.
    pub properties: Vec<(String, String)>,
    /// Names and passwords. If there are any, there is a SASL listener for them, and what they may do is asked of ACLs
    /// ([`Kafka::allow`](super::Kafka::allow)); the user `admin` and whoever comes to another listener may do all.
    pub users: Vec<(String, String)>,
    /// A listener with TLS, its certificate signed by itself.
    pub tls: bool,
    /// Java's second compiler, too. A start then costs double, a long run less: for measurements.
    pub full_compiler: bool,
    /// Ports of proxies, one for each node and listener: those of the first listener by node, then those of the second
    /// … Such a listener advertises the proxy's port on 127.0.0.1; [`Kafka::proxied`](super::Kafka::proxied) is where
    /// the proxy then forwards to.
    pub proxied_listeners: Vec<u16>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            nodes: 1,
            properties: Vec::new(),
            users: Vec::new(),
            tls: false,
            full_compiler: false,
            proxied_listeners: Vec::new(),
        }
    }
}

impl KafkaSettings {
    pub(super) fn check(&self) {
        assert!(self.nodes > 0, "a Kafka has a node or more");
        let proxied = self.proxied_listeners.len();
        assert!(
            proxied.is_multiple_of(self.nodes),
            "{proxied} ports of proxies for {} nodes: each listener needs one of each node",
            self.nodes
        );
        for (user, password) in &self.users {
            let is_plain = |text: &str| !text.is_empty() && text.chars().all(|c| !"\"\\,=[]; \n".contains(c));
            assert!(is_plain(user) && is_plain(password), "the name or password of {user:?} needs quoting");
        }
    }
}

/// Where a node listens.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) controller: u16,
    pub(super) plain: u16,
    pub(super) sasl: Option<u16>,
    pub(super) tls: Option<u16>,
    pub(super) proxied: Vec<Proxied>,
}

/// A listener behind a proxy.
#[derive(Debug)]
pub(super) struct Proxied {
    pub(super) real: u16,
    pub(super) advertised: u16,
}

impl Ports {
    /// Free ports for every node.
    pub(super) fn choose(settings: &KafkaSettings) -> Vec<Self> {
        let mut held = Vec::new();
        let mut port = || hold_port(&mut held);
        let of_node = |node: usize| Self {
            controller: port(),
            plain: port(),
            sasl: (!settings.users.is_empty()).then(&mut port),
            tls: settings.tls.then(&mut port),
            proxied: settings
                .proxied_listeners
                .iter()
                .skip(node)
                .step_by(settings.nodes)
                .map(|advertised| Proxied { real: port(), advertised: *advertised })
                .collect(),
        };
        (0..settings.nodes).map(of_node).collect()
    }
}

/// A free port from below those that Linux hands out by itself. A node is down for a while in tests, and its clients
/// and neighbours keep connecting to it: with a port of that range one of them would at times be given the very port it
/// connects to, connect to itself, and keep the node from coming back.
fn hold_port(held: &mut Vec<TcpListener>) -> u16 {
    const FIRST: u64 = 10_000;
    const END: u64 = 32_768;
    for _ in 0..1000 {
        // Every RandomState has keys of its own.
        let port = FIRST + RandomState::new().hash_one(held.len()) % (END - FIRST);
        let port = u16::try_from(port).expect("ports fit");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push(listener);
            return port;
        }
    }
    panic!("no free port from {FIRST} to {END}");
}

/// The text of a node's `server.properties`.
pub(super) fn properties(
    settings: &KafkaSettings,
    node: i32,
    cluster: &[&Ports],
    data: &Path,
    key_store: &Path,
) -> String {
    let replicas = settings.nodes.min(3);
    let in_sync = replicas.div_ceil(2);
    let voters: Vec<String> =
        (1..).zip(cluster).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let ports = cluster[usize::try_from(node - 1).expect("nodes are numbered from 1")];
    let mut text = String::new();
    let mut say = |name: &str, value: &str| writeln!(text, "{name}={value}").expect("a String takes all");

    say("node.id", &node.to_string());
    say("process.roles", "broker,controller");
    say("controller.quorum.voters", &voters.join(","));
    say("controller.listener.names", "CONTROLLER");
    say("inter.broker.listener.name", "PLAINTEXT");
    say("log.dirs", data.to_str().expect("temporary folders have names in UTF-8"));
    listeners(settings, ports, key_store, &mut say);

    for name in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        say(&format!("{name}.replication.factor"), &replicas.to_string());
        say(&format!("{name}.num.partitions"), "2");
    }
    for name in
        ["transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr", "min.insync.replicas"]
    {
        say(name, &in_sync.to_string());
    }
    say("default.replication.factor", &replicas.to_string());
    say("auto.create.topics.enable", "false");
    say("group.initial.rebalance.delay.ms", "0");
    say("group.min.session.timeout.ms", "1000");
    // A killed node is missed soon, and may come back soon: its old session must end first. One alone is quick to come
    // back; among several a slow machine should not look like a crash.
    say("broker.session.timeout.ms", if settings.nodes == 1 { "1000" } else { "3000" });
    say("broker.heartbeat.interval.ms", "300");
    say("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500");
    // Cleaning and retention begin at once, not after half a minute.
    say("log.initial.task.delay.ms", "100");
    say("log.retention.check.interval.ms", "1000");
    say("log.cleaner.backoff.ms", "100");
    say("log.cleaner.dedupe.buffer.size", "16777216");
    for (name, value) in &settings.properties {
        say(name, value);
    }
    text
}

/// A way in.
struct Listener {
    name: String,
    protocol: &'static str,
    port: u16,
    advertised: u16,
}

impl Listener {
    fn new(name: impl Into<String>, protocol: &'static str, port: u16) -> Self {
        Self { name: name.into(), protocol, port, advertised: port }
    }
}

/// The listeners, who may come to them, and what they advertise.
fn listeners(settings: &KafkaSettings, ports: &Ports, key_store: &Path, say: &mut impl FnMut(&str, &str)) {
    let mut all = vec![Listener::new("PLAINTEXT", "PLAINTEXT", ports.plain)];
    all.extend(ports.sasl.map(|port| Listener::new("SASL", "SASL_PLAINTEXT", port)));
    all.extend(ports.tls.map(|port| Listener::new("TLS", "SSL", port)));
    for (n, Proxied { real, advertised }) in ports.proxied.iter().enumerate() {
        let listener = Listener::new(format!("PROXIED{n}"), "PLAINTEXT", *real);
        all.push(Listener { advertised: *advertised, ..listener });
    }
    let list = |of: fn(&Listener) -> String| all.iter().map(of).collect::<Vec<String>>().join(",");
    let real = list(|listener| format!("{}://127.0.0.1:{}", listener.name, listener.port));
    say("listeners", &format!("CONTROLLER://127.0.0.1:{},{real}", ports.controller));
    say("advertised.listeners", &list(|of| format!("{}://127.0.0.1:{}", of.name, of.advertised)));
    let protocols = list(|listener| format!("{}:{}", listener.name, listener.protocol));
    say("listener.security.protocol.map", &format!("CONTROLLER:PLAINTEXT,{protocols}"));

    if ports.sasl.is_some() {
        let security = "org.apache.kafka.common.security";
        let users = settings.users.iter();
        let users: String = users.map(|(user, password)| format!(" user_{user}=\"{password}\"")).collect();
        let of = |mechanism: &str| format!("listener.name.sasl.{mechanism}.sasl.jaas.config");
        say("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,OAUTHBEARER");
        say(&of("plain"), &format!("{security}.plain.PlainLoginModule required{users};"));
        say(&of("scram-sha-256"), &format!("{security}.scram.ScramLoginModule required;"));
        say(&of("oauthbearer"), &format!("{security}.oauthbearer.OAuthBearerLoginModule required;"));
        say("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
        say("super.users", "User:admin;User:ANONYMOUS");
    }
    if ports.tls.is_some() {
        say("listener.name.tls.ssl.keystore.type", "PKCS12");
        say("listener.name.tls.ssl.keystore.location", key_store.to_str().expect("a name in UTF-8"));
        say("listener.name.tls.ssl.keystore.password", super::KEY_STORE_PASSWORD);
    }
}
