//! Histories for property tests: what befalls a table and its stream, step by step.
//!
//! ```text
//!   seed ─▶ History ─▶ put, put, split, faults on, delete, advance 20 min, put, roll, …  ─▶ DynamoSim
//! ```
//!
//! A history is a list of steps, so that proptest shrinks it by leaving steps out. A step means something in any state
//! (the nth open shard, of as many as there are), so that every shorter list is a history too.
//!
//! Nothing is trimmed by time in a history: whether a reader was in time would depend on how fast the machine is. What is
//! trimmed is trimmed by [`Step::Trim`], which is for when readers have everything.

use std::time::Duration;

use proptest::collection::{SizeRange, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::faults::Faults;
use crate::handle::DynamoSim;
use crate::identities::{IdentityBody, IdentityName, identity_item};
use crate::settings::SimSettings;

/// One thing that happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// An identity is written.
    Put(IdentityName, IdentityBody),
    /// It is written again as it is: nothing is recorded.
    PutAgain(IdentityName),
    /// It is deleted, if it is there.
    Delete(IdentityName),
    /// Its time is over, if it is there.
    Expire(IdentityName),
    /// The nth open shard splits.
    Split(usize),
    /// The nth open shard is followed by another.
    Roll(usize),
    /// Time passes, in milliseconds.
    Advance(u32),
    /// From now on so many of a hundred requests meet faults that a reader must bear.
    Faults(u8),
    /// Closed shards are forgotten. Only for when readers have all of them in the log ([`Step::wants_readers_done`]).
    Trim,
}

impl Step {
    /// Whether it may come only when readers have in the log all that was written.
    #[must_use]
    pub fn wants_readers_done(&self) -> bool {
        matches!(self, Self::Trim)
    }

    /// Lets it happen.
    ///
    /// # Panics
    /// If the simulator refuses an identity that Flagsmith would write.
    pub fn apply(&self, sim: &DynamoSim) {
        match self {
            Self::Put(name, body) => {
                sim.put(identity_item(*name, body)).expect("an item as Flagsmith writes it")
            }
            Self::PutAgain(name) => {
                if let Some(item) = sim.item(&name.composite_key()) {
                    sim.put(item).expect("an item that is there already");
                }
            }
            Self::Delete(name) => drop(sim.delete(&name.composite_key())),
            Self::Expire(name) => drop(sim.expire(&name.composite_key())),
            Self::Split(nth) => drop(nth_open(sim, *nth).and_then(|shard| sim.split(&shard))),
            Self::Roll(nth) => drop(nth_open(sim, *nth).and_then(|shard| sim.roll(&shard))),
            Self::Advance(ms) => sim.advance(Duration::from_millis(u64::from(*ms))),
            Self::Faults(percent) => sim.set_faults(Faults::bearable(*percent)),
            Self::Trim => drop(sim.vanish_closed()),
        }
    }

    /// Any step; rare ones are rare.
    pub fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            50 => (IdentityName::any(), IdentityBody::any()).prop_map(|(name, body)| Self::Put(name, body)),
            5 => IdentityName::any().prop_map(Self::PutAgain),
            12 => IdentityName::any().prop_map(Self::Delete),
            2 => IdentityName::any().prop_map(Self::Expire),
            8 => any::<u8>().prop_map(|nth| Self::Split(usize::from(nth))),
            8 => any::<u8>().prop_map(|nth| Self::Roll(usize::from(nth))),
            // From a moment to more than an iterator lives and a shard stays open.
            10 => prop_oneof![0..5_000_u32, 0..1_200_000_u32, 0..30_000_000_u32].prop_map(Self::Advance),
            2 => prop_oneof![Just(0_u8), 1..40_u8].prop_map(Self::Faults),
            3 => Just(Self::Trim),
        ]
    }
}

fn nth_open(sim: &DynamoSim, nth: usize) -> Option<String> {
    let mut open = sim.open_shards();
    let count = open.len();
    (count > 0).then(|| open.swap_remove(nth % count))
}

/// A list of steps and the world that they happen in.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// What is left to chance in the world comes from it.
    pub seed: u64,
    /// The steps.
    pub steps: Vec<Step>,
}

impl History {
    /// Histories of so many steps.
    pub fn strategy(steps: impl Into<SizeRange>) -> impl Strategy<Value = Self> {
        (any::<u64>().no_shrink(), vec(Step::any(), steps)).prop_map(|(seed, steps)| Self { seed, steps })
    }

    /// The history of a seed: always the same.
    ///
    /// # Panics
    /// Never: no strategy here rejects what it makes.
    #[must_use]
    pub fn generate(seed: u64, size: usize) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = vec(Step::any(), size).new_tree(&mut runner).expect("a strategy that rejects nothing");
        Self { seed, steps: tree.current() }
    }

    /// The world that it happens in: few shards, and no trims by time.
    #[must_use]
    pub fn settings(&self) -> SimSettings {
        SimSettings {
            seed: self.seed,
            shards: u32::try_from(self.seed % 3).unwrap_or(0) + 1,
            retention: Duration::from_secs(100 * 365 * 24 * 3600),
            ..SimSettings::default()
        }
    }

    /// Its world, in which nothing has happened yet.
    #[must_use]
    pub fn start(&self) -> DynamoSim {
        DynamoSim::start(self.settings())
    }
}

#[cfg(test)]
mod tests {
    use proptest::test_runner::TestError;

    use super::*;

    #[test]
    fn a_failing_history_shrinks_to_what_makes_it_fail() {
        let config = Config { failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let failed = runner.run(&History::strategy(0..200), |history| {
            let sim = history.start();
            history.steps.iter().for_each(|step| step.apply(&sim));
            let has_split = sim.shards().iter().any(|shard| shard.parent.is_some());
            if has_split { Err(proptest::test_runner::TestCaseError::fail("a child")) } else { Ok(()) }
        });
        let Err(TestError::Fail(_, history)) = failed else { panic!("{failed:?}") };
        assert_eq!(history.steps.len(), 1, "{history:?}");
    }
}
