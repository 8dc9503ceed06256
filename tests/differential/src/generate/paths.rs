//! JSONPaths, valid and nearly so.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::pick;
use super::values::{changed, character};

const PATHS: &[&str] = &[
    "$.identity.identifier",
    "$.identity.key",
    "$.environment.name",
    "$.environment.key",
    "$.identity.traits.a",
    "$.identity.traits.plan",
    "$.identity.traits['a']",
    "$.identity.traits[\"a.b\"]",
    "$.identity['traits']['a']",
    "$.identity.traits.*",
    "$.identity.*",
    "$.*",
    "$.*.key",
    "$.*.*",
    "$..a",
    "$..key",
    "$..*",
    "$..name",
    "$..['a']",
    "$..[*]",
    "$..traits.*",
    "$.identity",
    "$.identity.traits",
    "$.identity.traits.a.b",
    "$.missing",
    "$.flags.a.enabled",
    "$.flags",
    "$.flags.*",
    "$.identity.traits[0]",
    "$.identity.traits[-1]",
    "$.identity.traits[0:2]",
    "$.identity.traits[::0]",
    "$.identity.traits['a','b']",
    "$.identity.traits['b','a']",
    "$.identity['identifier','key']",
    "$. identity.key",
    "$.identity .key",
    "$.identity. key",
    "$.identity.key ",
    "$.identity.traits[ 'a' ]",
    "$.identity.traits[01]",
    "$.identity.traits[9007199254740992]",
    "$.identity.traits[1:9007199254740992]",
    "$.identity.traits['\\u0061']",
    "$.identity.traits['\\'']",
    "$.identity.traits['\"']",
    "$.identity.traits[\"\\\"\"]",
    "$.identity.traits['\\\\']",
    "$.identity.traits['\\x']",
    "$.identity.traits['é']",
    "$.identity.traits.é",
    "$.identity.traits['\\ud83d\\ude00']",
    "$.identity.traits['\\ud83d']",
    "$.identity.traits.a-b",
    "$.identity.traits.0",
    "$.identity.traits['0']",
    "$.identity.traits.$",
    "$.",
    "$..",
    "$...a",
    "$.a.",
    "$.[a]",
    "$.['a']",
    "$.identity.traits[]",
    "$.identity.traits['a',]",
    "$.identity.traits['a'",
    "$.identity.traits[*,'a']",
    "$.identity.traits[?@]",
    "$.identity.traits[?@ == 'a']",
    "$.identity.traits[?@.a]",
    "$.identity[?@.a]",
    "$.identity[?@.a == 'abc'].a",
    "$[?@.key].key",
    "$.*[?@ == 'env']",
    "$.identity.traits[?@ > 1]",
    "$.identity.traits[?@ >= 1 && @ < 100]",
    "$.identity.traits[?@ == null]",
    "$.identity.traits[?!@]",
    "$.identity.traits[?length(@) > 2]",
    "$.identity.traits[?count(@.*) == 0]",
    "$.*[?count(@.*) > 0].a",
    "$.identity.traits[?value(@.a) == 1]",
    "$.identity.traits[?count(@) == 1]",
    "$.identity.traits[?value(@) == 1]",
    "$.identity.traits[?foo(@)]",
    "$.identity.traits[?length(@)]",
    "$.identity.traits[?@.* == 1]",
    "$.identity.traits[?1]",
    "$.identity.traits[?@ == $.environment.name]",
    "$.identity.traits[?@ == true]",
    "$.identity.traits[?@ != @]",
    "$.identity.traits[?(@ == 1 || @ == 'a')]",
    "$.*[?@ == @]",
    "$.identity.traits[?@ == 1e3]",
    "$.identity.traits[?@ == 1e400]",
    "$.identity.traits[?@ < 1.5]",
    "$.identity.traits[?@ == -0]",
    "$.identity.traits[?'a' == @]",
    "$.identity.traits[?$.environment]",
    "$.*[?@ == $.identity.traits]",
    "$..[?@ == $.environment].key",
    "$[?length(@) == 2].key",
    "$..[?@.a == $.identity.traits.b].a",
];

const PARTS: &[&str] = &[
    ".",
    "..",
    ".*",
    "[*]",
    "['a']",
    "[\"b\"]",
    ".identity",
    ".traits",
    ".a",
    ".b",
    ".environment",
    ".key",
    ".name",
    ".identifier",
    "[0]",
    "[1:]",
    "[?@.a]",
    "[?@ == 1]",
    "[?@ > 'a']",
    "[?@.key != 'env']",
    "['a', 'b']",
    " ",
    "[?!@.a]",
    "[?length(@) == 1]",
    "[?(@.a || @.b) && @.key]",
    "[?@ <= 10]",
    "[?@.traits.a == 1]",
    "[?@[?@ == 1]]",
];

/// A path, perhaps to one of these keys.
pub(super) fn path(rng: &mut StdRng, keys: &[&String]) -> String {
    match rng.random_range(0..10) {
        0..4 => pick(rng, PATHS).to_owned(),
        4 => {
            let path = pick(rng, PATHS).to_owned();
            changed(rng, &path)
        }
        5..7 => {
            let key = keys.choose(rng).map_or("a", |key| key.as_str());
            match rng.random_range(0..4) {
                0 => format!("$.identity.traits.{key}"),
                1 => format!("$.identity.traits['{key}']"),
                2 => format!("$..['{key}']"),
                _ => format!("$.identity.traits[{}]", serde_json::to_string(key).expect("text is JSON")),
            }
        }
        7..9 => {
            let parts: String = (0..rng.random_range(1..5)).map(|_| pick(rng, PARTS)).collect();
            format!("${parts}")
        }
        _ => {
            let rest: String = (0..rng.random_range(0..6)).map(|_| character(rng)).collect();
            format!("$.{rest}")
        }
    }
}
