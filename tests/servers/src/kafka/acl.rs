//! What users of the SASL listener may do. Clients in Rust have no call for it, so it is said on the wire.

use std::io::Result;

use super::Kafka;
use super::wire::{self, Connection};
use crate::process::wait_until;

pub(super) const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
/// The first version that has patterns of names.
pub(super) const VERSION: i16 = 1;

/// On what something is allowed. The name `*` means all of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclResource<'a> {
    /// A topic.
    Topic(&'a str),
    /// All topics whose names begin so.
    TopicPrefix(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// A producer's transactional id.
    TransactionalId(&'a str),
    /// The cluster itself.
    Cluster,
}

impl AclResource<'_> {
    /// Kind, name and pattern on the wire.
    fn codes(&self) -> (u8, &str, u8) {
        const LITERAL: u8 = 3;
        const PREFIXED: u8 = 4;
        match self {
            Self::Topic(name) => (2, name, LITERAL),
            Self::TopicPrefix(name) => (2, name, PREFIXED),
            Self::Group(name) => (3, name, LITERAL),
            Self::Cluster => (4, "kafka-cluster", LITERAL),
            Self::TransactionalId(name) => (5, name, LITERAL),
        }
    }
}

/// What is allowed, by its number in Kafka's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are Kafka's own")]
pub enum AclOperation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

impl Kafka {
    /// Allows a user something, and waits until all running nodes know.
    ///
    /// # Panics
    /// If Kafka refuses, as one without users does.
    pub fn allow(&self, user: &str, resource: AclResource<'_>, operation: AclOperation) {
        self.change_acl(CREATE_ACLS, user, resource, operation);
    }

    /// Takes back what [`Kafka::allow`] allowed, and waits until all running nodes know.
    ///
    /// # Panics
    /// If Kafka refuses.
    pub fn disallow(&self, user: &str, resource: AclResource<'_>, operation: AclOperation) {
        self.change_acl(DELETE_ACLS, user, resource, operation);
    }

    fn change_acl(&self, request: i16, user: &str, resource: AclResource<'_>, operation: AclOperation) {
        const ALLOW: u8 = 3;
        let (kind, name, pattern) = resource.codes();
        // An entry to create, or a filter that only this entry passes: both are written alike.
        let mut entry = vec![kind];
        wire::put_string(&mut entry, name);
        entry.push(pattern);
        wire::put_string(&mut entry, &format!("User:{user}"));
        wire::put_string(&mut entry, "*"); // from any host
        entry.extend([operation as u8, ALLOW]);

        let ports: Vec<u16> = self.running().iter().map(|id| self.node(*id).ports.plain).collect();
        let one = [&1_i32.to_be_bytes()[..], &entry].concat();
        let changed = change(ports[0], request, &one).unwrap_or_else(|error| Some(error.to_string()));
        assert_eq!(changed, None, "{user} on {resource:?}: {operation:?}");
        let wanted = request == CREATE_ACLS;
        let known =
            wait_until(|| ports.iter().all(|port| is_known(*port, &entry).is_ok_and(|is| is == wanted)));
        assert!(known, "a node does not learn of {user} on {resource:?}: {operation:?}");
    }
}

/// Why a change of one entry was refused, if it was.
fn change(port: u16, request: i16, one: &[u8]) -> Result<Option<String>> {
    let mut answer = Connection::open(port)?.ask(request, VERSION, one)?;
    let (_throttled, _count) = (answer.int32()?, answer.int32()?);
    let (code, message) = (answer.int16()?, answer.string()?);
    Ok((code != 0).then(|| format!("error {code}: {}", message.unwrap_or_default())))
}

/// Whether a node has an entry.
fn is_known(port: u16, filter: &[u8]) -> Result<bool> {
    let mut answer = Connection::open(port)?.ask(DESCRIBE_ACLS, VERSION, filter)?;
    let (_throttled, _code, _message) = (answer.int32()?, answer.int16()?, answer.string()?);
    Ok(answer.int32()? > 0)
}
