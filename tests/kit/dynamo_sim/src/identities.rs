//! Identities as Flagsmith's edge keeps them: one item each, with traits of all kinds.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use rollcall_model::{Attribute, Item};

/// Environments by their api key. One key begins as another does, and none can be had by splitting at `_`.
const ENVIRONMENTS: [&str; 4] = ["env", "env_1", "ser.4Kx_9", "Zw3"];
/// Identifiers. `env` + `1_a` and `env_1` + `a` would be one key: two items never are.
const IDENTIFIERS: [&str; 8] = ["alice", "b_o_b", "007", "1.50", "Zoë 🦀", "x@y.example", "True", "a|b/c"];

/// One of the identities that a history writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdentityName {
    environment: usize,
    identifier: usize,
}

impl IdentityName {
    /// The key of its environment.
    #[must_use]
    pub fn environment_key(self) -> &'static str {
        ENVIRONMENTS[self.environment % ENVIRONMENTS.len()]
    }

    /// Its identifier.
    #[must_use]
    pub fn identifier(self) -> &'static str {
        IDENTIFIERS[self.identifier % IDENTIFIERS.len()]
    }

    /// The key of its item.
    #[must_use]
    pub fn composite_key(self) -> String {
        format!("{}_{}", self.environment_key(), self.identifier())
    }

    /// Any of them.
    pub fn any() -> impl Strategy<Value = Self> {
        (0..ENVIRONMENTS.len(), 0..IDENTIFIERS.len())
            .prop_map(|(environment, identifier)| Self { environment, identifier })
    }
}

/// What an identity is, but for its name.
#[derive(Clone, PartialEq, Debug)]
pub struct IdentityBody {
    /// Traits in the order of their list; a key may stand twice.
    pub traits: Vec<(String, Attribute)>,
    /// System traits; `None`: the attribute is absent, `Some(None)`: it is NULL.
    pub system: Option<Option<Vec<(String, Attribute)>>>,
    /// The id in the core, of those that came from there; `Some(None)`: NULL.
    pub django_id: Option<Option<u32>>,
    /// An alias, for people.
    pub alias: Option<String>,
}

impl IdentityBody {
    /// Any.
    pub fn any() -> impl Strategy<Value = Self> {
        let cohort = (select(COHORTS.as_slice()), Just(Attribute::Bool(true)));
        let system = prop_oneof![
            4 => Just(None),
            1 => Just(Some(None)),
            3 => vec(cohort.prop_map(|(key, value)| (key.to_owned(), value)), 0..3)
                .prop_map(|system| Some(Some(system))),
        ];
        let django_id = prop_oneof![
            4 => Just(None),
            1 => Just(Some(None)),
            1 => any::<u32>().prop_map(|id| Some(Some(id))),
        ];
        let alias = prop_oneof![5 => Just(None), 1 => Just(Some("An Alias".to_owned()))];
        (vec(any_trait(), 0..5), system, django_id, alias)
            .prop_map(|(traits, system, django_id, alias)| Self { traits, system, django_id, alias })
    }
}

const COHORTS: [&str; 2] = [
    "flagsmith_cohort_6a1f6a0e-0000-4000-8000-000000000001",
    "flagsmith_cohort_6a1f6a0e-0000-4000-8000-000000000002",
];
const TRAIT_KEYS: [&str; 6] = ["plan", "age", "organisation.id", "$identity", "ключ", ""];
const NUMBERS: [&str; 10] = [
    "0",
    "-0",
    "1",
    "10.0",
    "1.50",
    "-3",
    "9007199254740993",
    "0.1",
    "12345678901234567890123456789012345678",
    "-0.0000000000000000000000000000000000012",
];
const TEXTS: [&str; 10] = [
    "",
    "growth",
    "True",
    "false",
    "10",
    "1.50",
    "2024-01-01T10:00:00+02:00",
    "a,b",
    "1.2.3-rc.1",
    "\u{0}\"\\\n🦀",
];

fn any_trait() -> impl Strategy<Value = (String, Attribute)> {
    let value = prop_oneof![
        4 => select(TEXTS.as_slice()).prop_map(|text| Attribute::S(text.to_owned())),
        4 => select(NUMBERS.as_slice()).prop_map(|text| Attribute::N(text.to_owned())),
        2 => any::<i32>().prop_map(|number| Attribute::N(number.to_string())),
        2 => any::<bool>().prop_map(Attribute::Bool),
        1 => Just(Attribute::Null),
    ];
    (select(TRAIT_KEYS.as_slice()), value).prop_map(|(key, value)| (key.to_owned(), value))
}

/// The item of an identity.
#[must_use]
pub fn identity_item(name: IdentityName, body: &IdentityBody) -> Item {
    let text = |text: &str| Attribute::S(text.to_owned());
    let key = name.composite_key();
    let mut item = Item::from([
        ("composite_key".to_owned(), text(&key)),
        ("environment_api_key".to_owned(), text(name.environment_key())),
        ("identifier".to_owned(), text(name.identifier())),
        ("identity_uuid".to_owned(), text(&uuid(&key))),
        ("created_date".to_owned(), text("2026-01-15T12:00:00.000000+00:00")),
        ("identity_features".to_owned(), Attribute::L(Vec::new())),
    ]);
    let traits = body.traits.iter().map(|(key, value)| {
        Attribute::M(Item::from([
            ("trait_key".to_owned(), text(key)),
            ("trait_value".to_owned(), value.clone()),
        ]))
    });
    item.insert("identity_traits".to_owned(), Attribute::L(traits.collect()));
    match &body.system {
        None => {}
        Some(None) => drop(item.insert("system_traits".to_owned(), Attribute::Null)),
        Some(Some(system)) => {
            let system = Attribute::M(system.iter().cloned().collect());
            drop(item.insert("system_traits".to_owned(), system));
        }
    }
    if let Some(id) = body.django_id {
        let id = id.map_or(Attribute::Null, |id| Attribute::N(id.to_string()));
        item.insert("django_id".to_owned(), id);
    }
    if let Some(alias) = &body.alias {
        item.insert("dashboard_alias".to_owned(), text(alias));
    }
    item
}

/// A version 4 UUID that is always the same for a key.
fn uuid(key: &str) -> String {
    let (a, b) = (crate::core::draw(1, key, 0), crate::core::draw(2, key, 0));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}
