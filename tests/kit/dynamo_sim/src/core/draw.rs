//! Chance without state: a number drawn from the seed and what it is for, so that the same seed gives the same shards,
//! sequence numbers and faults in whatever order requests arrive.

use xxhash_rust::xxh64::xxh64;

/// A number for `what`, from all 64-bit numbers.
pub(crate) fn draw(seed: u64, what: &str, nth: u64) -> u64 {
    xxh64(what.as_bytes(), seed ^ nth.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Whether the `nth` of `what` falls among `percent` of a hundred.
pub(crate) fn falls(seed: u64, what: &str, nth: u64, percent: u8) -> bool {
    percent > 0 && draw(seed, what, nth) % 100 < u64::from(percent)
}

/// Where a key lies in the key space.
pub(crate) fn place(key: &str) -> u64 {
    xxh64(key.as_bytes(), 0)
}
