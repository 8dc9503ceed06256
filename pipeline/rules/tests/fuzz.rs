//! The fuzz targets' bodies on random bytes of a fresh seed, which is printed, and on what fuzzing has found.

mod fuzz_bodies;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const INPUTS: u64 = 4_000;

fn tries(name: &str, body: fn(&[u8])) {
    let seed: u64 = match std::env::var("FUZZ_SEED") {
        Ok(text) => text.parse().expect("FUZZ_SEED is a whole number"),
        // A run of a test may differ from the last; its seed is printed.
        #[allow(clippy::disallowed_methods)]
        Err(_) => rand::random(),
    };
    eprintln!("{name}: FUZZ_SEED={seed}");
    for number in 0..INPUTS {
        let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = vec![0; rng.random_range(0..400)];
        rng.fill(&mut bytes[..]);
        body(&bytes);
    }
}

#[test]
fn rule_documents_hold() {
    tries("rule_document", fuzz_bodies::rule_document);
}

#[test]
fn conditions_hold() {
    tries("condition", fuzz_bodies::condition);
}

#[test]
fn lines_hold() {
    tries("line", fuzz_bodies::line);
}
