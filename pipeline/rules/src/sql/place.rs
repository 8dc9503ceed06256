//! Where a condition looks, as columns of `IDENTITIES AS i`.
//!
//! ```text
//! trait ─▶ i.traits.{p0:Identifier}   one path of the JSON column, read alone; of type Dynamic
//! $.identity.identifier ─▶ i.identifier      $.identity.key ─▶ i.identity_key
//! $.environment.… ─▶ a value: the predicate is compiled for one environment
//! ```

use super::Scope;
use super::names::Names;
use super::param::ParamValue;
use crate::jsonpath::{Query, Target};
use crate::property::Property;

/// A place of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place<'a> {
    /// Nothing is there.
    Nothing,
    /// A path of the JSON column: SQL of type Dynamic, NULL where there is no trait.
    Trait(String),
    /// A column of text, coerced as every value.
    Text(&'static str),
    /// A column of text, as it is.
    RawText(&'static str),
    /// The same text for every row, coerced as every value.
    Value(&'a str),
    /// SQL can't look there, for this reason.
    Unreachable(String),
}

/// A condition's place: the second where the first, a trait of the property's very name, has no value.
pub(super) struct Places<'a> {
    pub(super) literal: Option<Place<'a>>,
    pub(super) place: Place<'a>,
}

/// Where a property looks.
pub(super) fn places<'a>(property: &Property, scope: &Scope<'a>, names: &mut Names<'_>) -> Places<'a> {
    match property {
        Property::IdentityKey => Places { literal: None, place: Place::RawText("i.identity_key") },
        Property::Trait(key) => Places { literal: None, place: trait_place(key, names) },
        Property::Path { literal, query, .. } => {
            Places { literal: Some(trait_place(literal, names)), place: target(query, scope, names) }
        }
        Property::Raises(reason) => Places { literal: None, place: Place::Unreachable(reason.clone()) },
    }
}

fn target<'a>(query: &Query, scope: &Scope<'a>, names: &mut Names<'_>) -> Place<'a> {
    match query.target() {
        Target::Nothing => Place::Nothing,
        Target::EnvironmentKey => Place::Value(scope.environment_key),
        Target::EnvironmentName => Place::Value(scope.environment_name),
        Target::Identifier => Place::Text("i.identifier"),
        Target::IdentityKey => Place::Text("i.identity_key"),
        Target::Trait(key) => trait_place(&key, names),
        Target::Depends => {
            Place::Unreachable("the path's first node hangs on which traits there are".to_owned())
        }
    }
}

/// The path of a trait. As an identifier it is read alone, without the rest of the JSON column; an identifier is taken
/// as it stands, so what would need an escape goes the slower way.
fn trait_place<'a>(key: &str, names: &mut Names<'_>) -> Place<'a> {
    if key.contains(".:`") || key.starts_with("^`") {
        return Place::Unreachable(
            "the trait's name means something else in a path of ClickHouse's".to_owned(),
        );
    }
    if key.is_empty() || key.contains(|c: char| c == '\\' || c.is_control()) {
        let name = names.bind(ParamValue::Text(key.to_owned()));
        return Place::Trait(format!("getSubcolumn(i.traits, {name})"));
    }
    let name = names.bind(ParamValue::Identifier(key.to_owned()));
    Place::Trait(format!("i.traits.{name}"))
}
