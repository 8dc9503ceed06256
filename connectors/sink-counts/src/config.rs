//! What the sink is told.

use std::fmt;

/// Whose count table it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Rollcall's own: `segment_membership`, with state and `as_of`.
    Native,
    /// Flagsmith's `segment_membership_segmentmembershipcount`: zero is no row; served by its API as it stands.
    Flagsmith,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Flagsmith => "flagsmith",
        })
    }
}

/// The settings of a counts sink.
#[derive(Clone)]
pub struct CountsSinkConfig {
    /// Its name in the topology.
    pub name: String,
    /// The Postgres that holds the count table.
    pub url: String,
    /// Whose count table.
    pub preset: Preset,
    /// The schema of the platform's tables; the ledger stands beside them.
    pub schema: String,
}

impl CountsSinkConfig {
    /// The schema when none is said: where Django puts its tables.
    pub const DEFAULT_SCHEMA: &'static str = "public";
}

/// Without the url, which may hold a password.
impl fmt::Debug for CountsSinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountsSinkConfig")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_never_shown() {
        let config = CountsSinkConfig {
            name: "counts".into(),
            url: "postgres://u:hunter2@h/db".into(),
            preset: Preset::Flagsmith,
            schema: "public".into(),
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
