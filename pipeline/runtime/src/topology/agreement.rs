//! What the log must agree on (PROTOCOL.md §1, Topology): two workers that differ in it would guess.
//!
//! Secrets and tuning are left out: a worker may have its own. Addresses are too, but with a log that several workers
//! share: there, another installation with the same prefix would write into its own databases what this one counted.

use std::collections::BTreeMap;

use rollcall_model::{Fingerprint, GateMode, OrganisationId, SourceName};
use serde::{Deserialize, Serialize};

use super::{LogConfig, Topology};

/// One source or sink as the log knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgreedPart {
    /// Its `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A source's platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Where it is, without user and password. Several workers must mean the same database; one that is alone may find
    /// it elsewhere tomorrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// The part of a topology that all workers of a log share; kept in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// Partitions of the log.
    pub partitions: u16,
    /// Sources by name.
    pub sources: BTreeMap<SourceName, AgreedPart>,
    /// The gate of organisations not named.
    pub gate_default: GateMode,
    /// Gates by organisation.
    pub gates: BTreeMap<OrganisationId, GateMode>,
    /// Sinks by name.
    pub sinks: BTreeMap<String, AgreedPart>,
}

/// One line of what `apply --plan` shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The key, from the root.
    pub key: String,
    /// What changes and what follows from it.
    pub line: String,
    /// Why it can't be applied, if so.
    pub refused: Option<String>,
}

impl Agreement {
    /// What `topology` asks the log to agree on.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let shared = matches!(topology.log, LogConfig::Kafka(_));
        let part = |kind: &str, platform: Option<&str>, url: &str| AgreedPart {
            kind: kind.to_owned(),
            platform: platform.map(str::to_owned),
            place: shared.then(|| place(url)).flatten(),
        };
        Self {
            partitions: topology.log.partitions(),
            sources: topology
                .sources
                .iter()
                .map(|(name, source)| {
                    (name.clone(), part(source.type_name(), Some(source.platform().name()), &source.url()))
                })
                .collect(),
            gate_default: topology.gates.default,
            gates: topology.gates.organisations.clone(),
            sinks: topology
                .sinks
                .iter()
                .map(|(name, sink)| (name.clone(), part(sink.type_name(), None, &sink.url())))
                .collect(),
        }
    }

    /// Canonical JSON: keys in order, no spaces. Equal agreements give equal bytes.
    ///
    /// # Errors
    /// Only if JSON can't be written at all.
    pub fn canonical_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// 16 hexadecimal digits that two equal agreements share.
    ///
    /// # Errors
    /// Only if JSON can't be written at all.
    pub fn fingerprint(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{:016x}", Fingerprint::of(&self.canonical_json()?)))
    }

    /// What changes when `new` takes the place of this one.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        if self.partitions != new.partitions {
            all.push(Difference {
                key: "log.partitions".to_owned(),
                line: format!("log.partitions: {} → {}", self.partitions, new.partitions),
                refused: Some(
                    "fixed when the log was made; a log with another number is a new log".to_owned(),
                ),
            });
        }
        parts(
            &mut all,
            "sources",
            &self.sources,
            &new.sources,
            "a first backfill follows",
            "its identities stay as they are",
        );
        parts(
            &mut all,
            "sinks",
            &self.sinks,
            &new.sinks,
            "it is filled from the log",
            "its tables stay as they are",
        );
        if self.gate_default != new.gate_default {
            all.push(gate(
                "gates.default",
                Some(self.gate_default),
                Some(new.gate_default),
                new.gate_default,
            ));
        }
        for id in self.gates.keys().chain(new.gates.keys().filter(|id| !self.gates.contains_key(*id))) {
            let (old_mode, new_mode) = (self.gates.get(id).copied(), new.gates.get(id).copied());
            if old_mode != new_mode {
                let key = format!("gates.organisations.{id}");
                all.push(gate(&key, old_mode, new_mode, new_mode.unwrap_or(new.gate_default)));
            }
        }
        all
    }
}

fn parts<K: Ord + std::fmt::Display>(
    all: &mut Vec<Difference>,
    section: &str,
    old: &BTreeMap<K, AgreedPart>,
    new: &BTreeMap<K, AgreedPart>,
    on_new: &str,
    on_gone: &str,
) {
    let describe = |part: &AgreedPart| match &part.platform {
        Some(platform) => format!("{} ({platform})", part.kind),
        None => part.kind.clone(),
    };
    for (name, part) in old {
        let key = format!("{section}.{name}");
        match new.get(name) {
            None => all.push(Difference { line: format!("{key}: removed; {on_gone}"), key, refused: None }),
            // A log that moved to where several workers share it learns the place then.
            Some(other) if moved(part, other) && part.place.is_none() => {}
            Some(other) if moved(part, other) => {
                let at = |part: &AgreedPart| part.place.clone().unwrap_or_else(|| "elsewhere".to_owned());
                all.push(Difference {
                    line: format!(
                        "{key}: at {} → {}; it must be the same database, or another installation has this log's \
                         prefix: then set another log.prefix",
                        at(part),
                        at(other)
                    ),
                    key,
                    refused: None,
                });
            }
            Some(other) if other != part => all.push(Difference {
                line: format!("{key}: {} → {}", describe(part), describe(other)),
                key,
                refused: Some(
                    "a name keeps its type and platform for the life of a log; use a new name".to_owned(),
                ),
            }),
            Some(_) => {}
        }
    }
    for (name, part) in new.iter().filter(|(name, _)| !old.contains_key(name)) {
        let key = format!("{section}.{name}");
        all.push(Difference {
            line: format!("{key}: added, {}; {on_new}", describe(part)),
            key,
            refused: None,
        });
    }
}

/// Whether it is the same but for where it is.
fn moved(old: &AgreedPart, new: &AgreedPart) -> bool {
    old.place != new.place && (&old.kind, &old.platform) == (&new.kind, &new.platform)
}

/// Host, port and database of a URL: nothing of it is secret.
fn place(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let port =
        url.port_or_known_default().or_else(|| url.scheme().starts_with("postgres").then_some(5432))?;
    Some(format!("{}:{port}{}", url.host_str().unwrap_or_default(), url.path().trim_end_matches('/')))
}

fn gate(key: &str, old: Option<GateMode>, new: Option<GateMode>, effective: GateMode) -> Difference {
    let word = |mode: Option<GateMode>| match mode {
        None => "default",
        Some(GateMode::On) => "on",
        Some(GateMode::Off) => "off",
        Some(GateMode::Exclude) => "exclude",
    };
    let follows = match effective {
        GateMode::On => "its identities are judged by a fill; those excluded before come back by a backfill",
        GateMode::Off => "members and counts leave by a fill, images stay",
        GateMode::Exclude => "members, counts and images leave",
    };
    Difference {
        key: key.to_owned(),
        line: format!("{key}: {} → {}; {follows}", word(old), word(new)),
        refused: None,
    }
}
