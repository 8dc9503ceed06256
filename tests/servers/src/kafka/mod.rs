//! A Kafka of a test's own: one KRaft node, or a cluster of some, each a process that can be killed.
//!
//! Every node is broker and controller in one, numbered from 1. Its listeners:
//!
//! | name         | who is there               | address                |
//! |--------------|----------------------------|------------------------|
//! | `PLAINTEXT`  | anybody                    | [`Kafka::brokers`]     |
//! | `SASL`       | [`KafkaSettings::users`]   | [`Kafka::brokers_sasl`]|
//! | `TLS`        | anybody, encrypted         | [`Kafka::brokers_tls`] |
//! | `PROXIEDn`   | anybody, through a proxy   | [`Kafka::proxied`]     |
//! | `CONTROLLER` | the nodes among themselves | –                      |
//!
//! Clients learn from a listener the addresses that it advertises, and use these from then on. A listener behind a
//! proxy therefore advertises the proxy: who comes through it stays behind it.

mod acl;
mod config;
mod wire;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub use acl::{AclOperation, AclResource};
pub use config::KafkaSettings;

use crate::process::{JAVA_QUICK, end, log_tail, wait_until};
use crate::{cache, cached};
use config::Ports;

/// It protects nothing: the key is a test's own, and goes with its folder.
const KEY_STORE_PASSWORD: &str = "of-a-test";

/// A running Kafka. Its ports stay over restarts; its data is in a temporary folder that goes with it.
#[derive(Debug)]
pub struct Kafka {
    folder: TempDir,
    nodes: Vec<Node>,
    is_tls: bool,
    has_full_compiler: bool,
}

/// One broker and controller.
#[derive(Debug)]
struct Node {
    id: i32,
    ports: Ports,
    server: Option<Child>,
}

impl Kafka {
    /// Starts one node.
    ///
    /// # Panics
    /// If it is not installed or does not start: says what brings it, or shows the end of its log.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(KafkaSettings::default())
    }

    /// Starts a cluster of so many nodes; three keep each topic three times and accept what two have.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    #[must_use]
    pub fn start_nodes(nodes: usize) -> Self {
        Self::start_with(KafkaSettings { nodes, ..KafkaSettings::default() })
    }

    /// Starts one as these settings say.
    ///
    /// # Panics
    /// As [`Kafka::start`], and if the settings contradict themselves.
    #[must_use]
    pub fn start_with(settings: KafkaSettings) -> Self {
        settings.check();
        let folder = TempDir::with_prefix("rollcall-kafka-").expect("a temporary folder");
        let ports = Ports::choose(&settings);
        let ids = 1..;
        let nodes = ids.zip(ports).map(|(id, ports)| Node { id, ports, server: None }).collect();
        let KafkaSettings { tls: is_tls, full_compiler: has_full_compiler, .. } = settings;
        let mut kafka = Self { folder, nodes, is_tls, has_full_compiler };
        if settings.tls {
            kafka.make_certificate();
        }
        kafka.write_properties(&settings);
        kafka.format(&settings);
        kafka.start_all();
        kafka
    }

    fn write_properties(&self, settings: &KafkaSettings) {
        let ports: Vec<&Ports> = self.nodes.iter().map(|node| &node.ports).collect();
        for node in &self.nodes {
            let folder = self.node_path(node.id);
            std::fs::create_dir(&folder).expect("a folder in our own folder");
            let key_store = self.key_store();
            let text = config::properties(settings, node.id, &ports, &folder.join("data"), &key_store);
            std::fs::write(folder.join("server.properties"), text).expect("a file in our own folder");
        }
    }

    /// Makes the data folders: the first by Kafka's own tool, the others as its copies, which saves a JVM for each.
    fn format(&self, settings: &KafkaSettings) {
        let first = self.node_path(1);
        let mut tool = java(&[JAVA_QUICK, "-XX:+UseSerialGC"], "off");
        tool.args(["kafka.tools.StorageTool", "format", "-t", config::CLUSTER_ID, "-c"]);
        tool.arg(first.join("server.properties"));
        for (user, password) in &settings.users {
            tool.arg("--add-scram").arg(format!("SCRAM-SHA-256=[name={user},password={password}]"));
        }
        let output = tool.output().expect("java runs");
        assert!(
            output.status.success(),
            "Kafka's data folder could not be made: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let read = |name: &str| std::fs::read(first.join("data").join(name)).expect("what was formatted");
        for node in &self.nodes[1..] {
            let data = self.node_path(node.id).join("data");
            std::fs::create_dir(&data).expect("a folder in our own folder");
            let bootstrap = "bootstrap.checkpoint";
            std::fs::write(data.join(bootstrap), read(bootstrap)).expect("a file in our own folder");
            // Without an id of its own the folder is given one when the node starts.
            let meta = String::from_utf8(read("meta.properties")).expect("properties are text");
            let of_the_first =
                |line: &&str| !line.starts_with("node.id=") && !line.starts_with("directory.id=");
            let kept: Vec<&str> = meta.lines().filter(of_the_first).collect();
            let meta = format!("{}\nnode.id={}\n", kept.join("\n"), node.id);
            std::fs::write(data.join("meta.properties"), meta).expect("a file in our own folder");
        }
    }

    fn launch(&mut self, id: i32) {
        let folder = self.node_path(id);
        let log_path = self.log_path(id);
        let has_full_compiler = self.has_full_compiler;
        let node = self.node_mut(id);
        assert!(node.server.is_none(), "node {id} of Kafka runs already");
        let log = File::options().create(true).append(true).open(log_path).expect("a file in our own folder");
        let mut command =
            java(if has_full_compiler { &["-Xmx512m"] } else { &["-Xmx512m", JAVA_QUICK] }, "info");
        command.arg("kafka.Kafka").arg(folder.join("server.properties")).current_dir(&folder);
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        node.server = Some(command.spawn().expect("java starts"));
    }

    /// Waits until each running node takes requests and knows all the others as brokers that do.
    fn wait_until_ready(&mut self) {
        let mut gone = None;
        let mut last = String::new();
        let up = wait_until(|| {
            for node in &mut self.nodes {
                let Some(server) = &mut node.server else { continue };
                if let Some(status) = server.try_wait().ok().flatten() {
                    gone = Some((node.id, status));
                    return true;
                }
            }
            let running = self.running();
            running.iter().all(|id| match wire::brokers(self.node(*id).ports.plain) {
                Ok(seen) if running.iter().all(|id| seen.iter().any(|(other, _)| other == id)) => true,
                Ok(seen) => {
                    last = format!("node {id} knows of {seen:?} alone");
                    false
                }
                Err(error) => {
                    last = format!("node {id}: {error}");
                    false
                }
            })
        });
        if let Some((id, status)) = gone {
            panic!("node {id} of Kafka did not start, {status}:\n{}", self.log_tail(id));
        }
        if !up {
            let tails: Vec<String> = self.running().iter().map(|id| self.log_tail(*id)).collect();
            panic!("Kafka did not come up ({last}):\n{}", tails.join("\n---\n"));
        }
    }

    /// What clients connect to: host and port of every node, running or not, with commas between.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.list(|ports| ports.plain)
    }

    /// The same of the listener that asks for a user: SASL without encryption, PLAIN, SCRAM-SHA-256 or OAUTHBEARER
    /// (unsigned tokens).
    ///
    /// # Panics
    /// If the settings have no users.
    #[must_use]
    pub fn brokers_sasl(&self) -> String {
        self.list(|ports| ports.sasl.expect("settings with users"))
    }

    /// The same of the listener with TLS; [`Kafka::ca_path`] is what its clients trust.
    ///
    /// # Panics
    /// If the settings have no TLS.
    #[must_use]
    pub fn brokers_tls(&self) -> String {
        self.list(|ports| ports.tls.expect("settings with tls"))
    }

    fn list(&self, port: impl Fn(&Ports) -> u16) -> String {
        let addresses: Vec<String> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", port(&node.ports))).collect();
        addresses.join(",")
    }

    /// The certificate (PEM) that clients of [`Kafka::brokers_tls`] trust.
    ///
    /// # Panics
    /// If the settings have no TLS.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        assert!(self.is_tls, "settings with tls");
        self.folder.path().join("ca.pem")
    }

    fn key_store(&self) -> PathBuf {
        self.folder.path().join("keys.p12")
    }

    /// One key and certificate for all nodes, for `localhost` and 127.0.0.1, signed by itself.
    fn make_certificate(&self) {
        let keytool = |args: &[&str]| {
            let mut command = Command::new("keytool");
            command.args(args).args(["-alias", "kafka", "-storetype", "PKCS12"]);
            command.args(["-storepass", KEY_STORE_PASSWORD, "-keystore"]).arg(self.key_store());
            let output = command.stdin(Stdio::null()).output().expect("keytool, which comes with java, runs");
            let said = [&output.stdout[..], &output.stderr].concat();
            assert!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&said));
            output.stdout
        };
        keytool(&[
            "-genkeypair",
            "-keyalg",
            "EC",
            "-groupname",
            "secp256r1",
            "-validity",
            "30",
            "-dname",
            "CN=localhost",
            "-ext",
            "SAN=DNS:localhost,IP:127.0.0.1",
            "-ext",
            "BC:critical=ca:true",
        ]);
        let certificate = keytool(&["-exportcert", "-rfc"]);
        std::fs::write(self.ca_path(), certificate).expect("a file in our own folder");
    }

    /// Where the proxy at entry `n` of [`KafkaSettings::proxied_listeners`] must forward to.
    ///
    /// # Panics
    /// If there is no such entry.
    #[must_use]
    pub fn proxied(&self, n: usize) -> SocketAddr {
        let of_a_listener = &self.nodes[n % self.nodes.len()].ports.proxied;
        SocketAddr::from((Ipv4Addr::LOCALHOST, of_a_listener[n / self.nodes.len()].real))
    }

    /// The ids of all nodes: 1, 2, …
    #[must_use]
    pub fn nodes(&self) -> Vec<i32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// A node's process id.
    ///
    /// # Panics
    /// If it is stopped.
    #[must_use]
    pub fn pid(&self, node: i32) -> u32 {
        self.node(node).server.as_ref().expect("the node runs").id()
    }

    /// Kills a node, as a crash does.
    pub fn kill9(&mut self, node: i32) {
        if let Some(mut server) = self.node_mut(node).server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Asks a node to stop, and waits until it has. Its partitions are led by others before it goes.
    ///
    /// # Panics
    /// If it does not end, as when no majority of nodes is left that could let it go.
    pub fn stop(&mut self, node: i32) {
        if let Some(mut server) = self.node_mut(node).server.take() {
            let status = end(&mut server, "TERM");
            assert!(status.is_some(), "node {node} of Kafka did not stop:\n{}", self.log_tail(node));
        }
    }

    /// Starts a node again after [`Kafka::stop`] or [`Kafka::kill9`], on the same data and ports, and waits until all
    /// running nodes take requests. That needs a majority of nodes: without it use [`Kafka::start_all`].
    ///
    /// # Panics
    /// If it does not come up: shows the end of its log.
    pub fn start_again(&mut self, node: i32) {
        self.launch(node);
        self.wait_until_ready();
    }

    /// Starts all nodes that don't run, at once.
    ///
    /// # Panics
    /// As [`Kafka::start_again`].
    pub fn start_all(&mut self) {
        let running = self.running();
        for id in self.nodes().into_iter().filter(|id| !running.contains(id)) {
            self.launch(id);
        }
        self.wait_until_ready();
    }

    /// Stops and starts a node.
    ///
    /// # Panics
    /// As [`Kafka::start_again`].
    pub fn restart(&mut self, node: i32) {
        self.stop(node);
        self.start_again(node);
    }

    /// The folder with a node's topics.
    #[must_use]
    pub fn data_path(&self, node: i32) -> PathBuf {
        self.node_path(node).join("data")
    }

    /// What a node has logged.
    #[must_use]
    pub fn log(&self, node: i32) -> String {
        std::fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    fn log_tail(&self, node: i32) -> String {
        log_tail(&self.log_path(node))
    }

    fn node_path(&self, node: i32) -> PathBuf {
        self.folder.path().join(format!("node-{node}"))
    }

    fn log_path(&self, node: i32) -> PathBuf {
        self.node_path(node).join("server.log")
    }

    fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("nodes are numbered from 1")
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("nodes are numbered from 1")
    }

    fn running(&self) -> Vec<i32> {
        self.nodes.iter().filter(|node| node.server.is_some()).map(|node| node.id).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // What they hold goes with them, so nothing is gained by letting them finish.
        for id in self.nodes() {
            self.kill9(id);
        }
    }
}

/// A command of Kafka's jars, without its class yet; `level` of what it logs to standard error.
fn java(options: &[&str], level: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options).arg("-cp").arg(cached("kafka/libs").join("*"));
    let archive = cache().join("kafka/server.jsa");
    if archive.exists() {
        command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
    }
    command.arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"));
    command.args([
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.showShortLogName=true",
    ]);
    command.arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS");
    // All that KafkaConfig says is every setting it has, at every start.
    command.arg("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn");
    command.stdin(Stdio::null());
    command
}
