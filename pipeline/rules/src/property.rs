//! Where a condition looks: from the text of its property to a value of the identity.
//!
//! ```text
//! blank, and the operator is PERCENTAGE_SPLIT ─▶ identity.key, as it is
//! `$.…`: a trait of that very name, if it isn't null
//!        └─ else the first node of the JSONPath, if it is a scalar        ─▶ coerced
//!        (no JSONPath: as below)
//! anything else: the trait of that name
//! ```

use crate::context::Context;
use crate::jsonpath::{CompileError, Leaf, Query};
use crate::judge::Raised;
use crate::steps::Steps;
use crate::subject::Subject;

/// A compiled property.
#[derive(Clone, Debug)]
pub(crate) enum Property {
    /// The identity's key, without coercion.
    IdentityKey,
    /// A trait.
    Trait(Box<str>),
    /// A JSONPath, unless a trait has its text for a name.
    Path {
        /// The property's text.
        literal: Box<str>,
        /// The path.
        query: Query,
        /// Why it makes the segment unsupported, though it can be resolved.
        unsupported: Option<String>,
    },
    /// The reference raises before it looks.
    Raises(String),
}

impl Property {
    /// `splits` is whether the operator is PERCENTAGE_SPLIT.
    pub(crate) fn compile(property: Option<&str>, splits: bool) -> Self {
        let Some(text) = property else {
            return if splits {
                Self::IdentityKey
            } else {
                Self::Raises("a condition without a property raises in the reference".to_owned())
            };
        };
        if text.is_empty() && splits {
            return Self::IdentityKey;
        }
        if !text.starts_with("$.") {
            return Self::Trait(text.into());
        }
        match Query::compile(text) {
            Ok(query) => {
                let unsupported = query.unsupported();
                Self::Path { literal: text.into(), query, unsupported }
            }
            Err(CompileError::Syntax) => Self::Trait(text.into()),
            Err(CompileError::Raises(reason)) => Self::Raises(reason),
        }
    }

    pub(crate) fn unsupported(&self) -> Option<&str> {
        match self {
            Self::IdentityKey | Self::Trait(_) => None,
            Self::Path { unsupported, .. } => unsupported.as_deref(),
            Self::Raises(reason) => Some(reason),
        }
    }

    /// The value there, coerced.
    ///
    /// # Errors
    /// Where the reference raises.
    pub(crate) fn resolve<'a>(&self, context: &Context<'a>, steps: &Steps) -> Result<Subject<'a>, Raised> {
        match self {
            Self::IdentityKey => Ok(Subject::Text(context.identity_key)),
            Self::Trait(key) => context.trait_value(key).map_or(Ok(Subject::Missing), Subject::of_value),
            Self::Path { literal, query, .. } => {
                if let Some(value) = context.trait_value(literal) {
                    let subject = Subject::of_value(value)?;
                    if subject != Subject::Missing {
                        return Ok(subject);
                    }
                }
                let first = query.first_leaf(context, steps).map_err(|raised| Raised {
                    reason: format!("'{literal}': {}", raised.reason),
                    ..raised
                })?;
                match first {
                    None => Ok(Subject::Missing),
                    Some(Leaf::Value(value)) => Subject::of_value(value),
                    Some(Leaf::Text(text)) => Subject::of_text(text),
                }
            }
            Self::Raises(reason) => Err(Raised::new(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rollcall_model::{Traits, Value};

    fn resolve(property: &str, traits: &[(&str, Value)], system: &[(&str, Value)]) -> String {
        let map = |entries: &[(&str, Value)]| -> Traits {
            entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
        };
        let (traits, system_traits) = (map(traits), map(system));
        let context = Context {
            environment_key: "env",
            environment_name: "Production",
            identifier: "007",
            identity_key: "env_007",
            traits: &traits,
            system_traits: &system_traits,
            tree: None,
        };
        let subject = Property::compile(Some(property), false).resolve(&context, &Steps::new()).unwrap();
        format!("{} {}", subject.type_name(), subject.to_text().unwrap())
    }

    #[test]
    fn properties_resolve_as_in_the_reference() {
        let plan = ("plan", Value::Str("growth".into()));
        for (property, found) in [
            ("plan", "str growth"),
            ("Plan", "none None"),
            ("", "none None"),
            ("$", "none None"),
            ("$.identity.identifier", "int 7"),
            ("$.identity.key", "str env_007"),
            ("$.identity.traits.plan", "str growth"),
            ("$.identity.traits['plan']", "str growth"),
            ("$.identity['traits'][\"plan\"]", "str growth"),
            ("$.environment.name", "str Production"),
            ("$.environment.key", "str env"),
            ("$.identity", "none None"),
            ("$.identity.*", "int 7"),
            ("$..plan", "str growth"),
            ("$..key", "str env"),
            ("$.identity.traits.*", "str growth"),
            ("$.identity.traits.", "none None"),
        ] {
            assert_eq!(resolve(property, std::slice::from_ref(&plan), &[]), found, "{property}");
        }
    }

    #[test]
    fn a_trait_of_the_literal_name_goes_first() {
        let literal = |value| [("$.identity.key", value)];
        assert_eq!(resolve("$.identity.key", &literal(Value::Bool(true)), &[]), "bool True");
        assert_eq!(resolve("$.identity.key", &literal(Value::Null), &[]), "str env_007");
        assert_eq!(resolve("$.identity.traits.", &[("$.identity.traits.", Value::Int(1))], &[]), "int 1");
    }

    #[test]
    fn system_traits_win() {
        let (one, two) = ([("t", Value::Int(1))], [("t", Value::Int(2))]);
        assert_eq!(resolve("t", &one, &two), "int 2");
        assert_eq!(resolve("$..t", &one, &two), "int 2");
        assert_eq!(resolve("t", &one, &[("t", Value::Null)]), "none None");
    }

    proptest::proptest! {
            #[test]
    fn no_path_panics(rest in r#"[$@.*\[\]?()'"\\ a-c0-9:,!=<>&|\-]{0,24}"#) {
                let none = Traits::new();
                let context = Context {
                    environment_key: "env",
                    environment_name: "",
                    identifier: "1",
                    identity_key: "k",
                    traits: &none,
                    system_traits: &none,
                    tree: None,
                };
                let _ = Property::compile(Some(&format!("$.{rest}")), false).resolve(&context, &Steps::new());
            }

            #[test]
            fn quoted_names_find_their_trait(name in r"[^\x00-\x1f]{1,12}") {
                let path = format!("$.identity.traits[{}]", serde_json::to_string(&name).unwrap());
                let value = Value::Str("found".into());
                proptest::prop_assert_eq!(resolve(&path, &[(&name, value)], &[]), "str found");
            }
        }
}
