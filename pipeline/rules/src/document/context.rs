//! The context of a line, and the order in which it stands there.

use std::borrow::Cow;

use rollcall_model::{Traits, Value};

use super::{LineError, object};
use crate::context::{Context, DocumentTree, Slot};
use crate::python::{Int, Json, Text};

/// What a [`Context`] borrows from.
#[derive(Debug)]
pub(super) struct ContextDocument<'l> {
    environment_key: Cow<'l, str>,
    environment_name: Cow<'l, str>,
    identifier: Cow<'l, str>,
    identity_key: Cow<'l, str>,
    traits: Traits,
    tree: DocumentTree<'l>,
}

/// A document has no system traits.
static NO_TRAITS: Traits = Traits::new();

type Slots<'l> = Vec<(Cow<'l, str>, Slot)>;

impl<'l> ContextDocument<'l> {
    /// Fills in a missing identity key as the reference's `get_enriched_context` does.
    pub(super) fn read(context: Json<'l>) -> Result<Self, LineError> {
        let mut tree = DocumentTree::default();
        let (environment, identity) = parts(context, &mut tree.root)?;
        let (environment_key, environment_name) = environment_texts(environment, &mut tree.environment)?;
        let identity = identity.ok_or_else(|| LineError::missing("context.identity"))?;
        let (mut identifier, mut identity_key, mut traits) = (None, None, Traits::new());
        for (key, value) in object(identity, "context.identity")? {
            let key = name(key, "context.identity")?;
            let slot = match &*key {
                "identifier" => {
                    identifier = Some(text(value, "context.identity.identifier")?);
                    Slot::Known
                }
                "key" => {
                    if !matches!(value, Json::Null) {
                        identity_key =
                            Some(text(value, "context.identity.key")?).filter(|key| !key.is_empty());
                    }
                    Slot::Known
                }
                "traits" if matches!(value, Json::Null) => Slot::Scalar(Value::Null),
                "traits" => {
                    (traits, tree.traits) = read_traits(value)?;
                    Slot::Known
                }
                _ => extra(value, "context.identity", &key)?,
            };
            tree.identity.push((key, slot));
        }
        let identifier = identifier.ok_or_else(|| LineError::missing("context.identity.identifier"))?;
        let identity_key = identity_key.unwrap_or_else(|| format!("{environment_key}_{identifier}").into());
        if !tree.identity.iter().any(|(key, _)| key == "key") {
            tree.identity.push(("key".into(), Slot::Known));
        }
        Ok(Self { environment_key, environment_name, identifier, identity_key, traits, tree })
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            environment_key: &self.environment_key,
            environment_name: &self.environment_name,
            identifier: &self.identifier,
            identity_key: &self.identity_key,
            traits: &self.traits,
            system_traits: &NO_TRAITS,
            tree: Some(&self.tree),
        }
    }
}

/// Key and name of the environment of a context that may lack an identity.
pub(super) fn environment(context: Json<'_>) -> Result<(Cow<'_, str>, Cow<'_, str>), LineError> {
    let (environment, _) = parts(context, &mut Vec::new())?;
    environment_texts(environment, &mut Vec::new())
}

/// Environment and identity.
fn parts<'l>(
    context: Json<'l>,
    slots: &mut Slots<'l>,
) -> Result<(Option<Json<'l>>, Option<Json<'l>>), LineError> {
    let (mut environment, mut identity) = (None, None);
    for (key, value) in object(context, "context")? {
        let key = name(key, "context")?;
        let slot = match &*key {
            "environment" => {
                environment = Some(value);
                Slot::Known
            }
            "identity" => {
                identity = Some(value);
                Slot::Known
            }
            _ => extra(value, "context", &key)?,
        };
        slots.push((key, slot));
    }
    Ok((environment, identity))
}

fn environment_texts<'l>(
    environment: Option<Json<'l>>,
    slots: &mut Slots<'l>,
) -> Result<(Cow<'l, str>, Cow<'l, str>), LineError> {
    let environment = environment.ok_or_else(|| LineError::missing("context.environment"))?;
    let (mut environment_key, mut environment_name) = (None, None);
    for (key, value) in object(environment, "context.environment")? {
        let key = name(key, "context.environment")?;
        let slot = match &*key {
            "key" => {
                environment_key = Some(text(value, "context.environment.key")?);
                Slot::Known
            }
            "name" => {
                environment_name = Some(text(value, "context.environment.name")?);
                Slot::Known
            }
            _ => extra(value, "context.environment", &key)?,
        };
        slots.push((key, slot));
    }
    Ok((
        environment_key.ok_or_else(|| LineError::missing("context.environment.key"))?,
        environment_name.ok_or_else(|| LineError::missing("context.environment.name"))?,
    ))
}

/// Traits, and their keys in the order in which they stand.
fn read_traits<'l>(json: Json<'l>) -> Result<(Traits, Vec<Cow<'l, str>>), LineError> {
    const PATH: &str = "context.identity.traits";
    let mut traits = Traits::new();
    let entries = object(json, PATH)?;
    let mut order = Vec::with_capacity(entries.len());
    for (key, json) in entries {
        let key = name(key, PATH)?;
        let value = value(json).map_err(|json| {
            LineError::unfit(&format!("{PATH}.{key}"), &json, "text, a number, a bool or null")
        })?;
        traits.insert(key.clone().into_owned(), value);
        order.push(key);
    }
    Ok((traits, order))
}

/// What stands under a key that a context has no place for.
fn extra(json: Json<'_>, parent: &str, key: &str) -> Result<Slot, LineError> {
    match value(json) {
        Ok(value) => Ok(Slot::Scalar(value)),
        Err(Json::List { .. } | Json::Object(_)) => Ok(Slot::Other),
        Err(json @ (Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Text(_))) => {
            Err(LineError::unfit(&format!("{parent}.{key}"), &json, "text"))
        }
    }
}

/// A scalar, or what else it is.
fn value(json: Json<'_>) -> Result<Value, Json<'_>> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Int(Int::Small(n)) => Value::Int(n),
        Json::Int(Int::Big(n)) => Value::int(n),
        Json::Float(x) => Value::Float(x),
        Json::Text(Text::Whole(text)) => Value::Str(text.into_owned()),
        Json::Text(Text::Halves(_)) | Json::List { .. } | Json::Object(_) => return Err(json),
    })
}

fn text<'l>(json: Json<'l>, path: &str) -> Result<Cow<'l, str>, LineError> {
    match json {
        Json::Text(Text::Whole(text)) => Ok(text),
        Json::Null
        | Json::Bool(_)
        | Json::Int(_)
        | Json::Float(_)
        | Json::Text(Text::Halves(_))
        | Json::List { .. }
        | Json::Object(_) => Err(LineError::unfit(path, &json, "text")),
    }
}

fn name<'l>(key: Text<'l>, path: &str) -> Result<Cow<'l, str>, LineError> {
    match key {
        Text::Whole(text) => Ok(text),
        Text::Halves(_) => Err(LineError::new(format!("{path}: half of a surrogate pair in a key"))),
    }
}
