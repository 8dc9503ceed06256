//! JSON Schemas: does one take every record that the other lets be written?
//!
//! Only the keywords that our schemas use are known; another one is a finding, because a comparison that passes over
//! what it doesn't know says nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Found, Readers};

/// Checked beside one another below, or of no meaning to a reader.
const KNOWN: &[&str] = &[
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minimum",
    "maximum",
    "pattern",
    "enum",
    "const",
    "oneOf",
    "anyOf",
];

/// What of the new form breaks readers of the old one, or our reading of old records.
pub(crate) fn compare(old: &str, new: &str, readers: Readers) -> Result<Found, String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("is no JSON: {e}"));
    let (old, new) = (parse(old)?, parse(new)?);
    let mut found = Found::new();
    let backward = Compare { writer: &old, reader: &new, way: Way::Backward };
    backward.takes(&old, &new, "", &mut BTreeSet::new(), &mut found);
    if readers == Readers::All {
        let forward = Compare { writer: &new, reader: &old, way: Way::Forward };
        forward.takes(&new, &old, "", &mut BTreeSet::new(), &mut found);
    }
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The new form reads old records.
    Backward,
    /// Readers of the old form read new records, and pass over fields that they don't know.
    Forward,
}

struct Compare<'a> {
    writer: &'a Value,
    reader: &'a Value,
    way: Way,
}

/// Pairs of definitions that are being compared: rules hold rules.
type Open = BTreeSet<(String, String)>;

impl<'a> Compare<'a> {
    /// Finds what `r` would not take of what `w` lets be written.
    fn takes(&self, w: &'a Value, r: &'a Value, at: &str, open: &mut Open, found: &mut Found) {
        let pair = (w["$ref"].as_str(), r["$ref"].as_str());
        if let (Some(w), Some(r)) = pair
            && !open.insert((w.to_owned(), r.to_owned()))
        {
            return;
        }
        self.resolved(resolve(self.writer, w), resolve(self.reader, r), at, open, found);
        if let (Some(w), Some(r)) = pair {
            open.remove(&(w.to_owned(), r.to_owned()));
        }
    }

    fn resolved(&self, w: &'a Value, r: &'a Value, at: &str, open: &mut Open, found: &mut Found) {
        let mut say = |rule: String| {
            found.insert((at.to_owned(), rule));
        };
        for keyword in [w, r].into_iter().filter_map(Value::as_object).flat_map(|schema| schema.keys()) {
            if !KNOWN.contains(&keyword.as_str()) {
                say(format!("the check doesn't know the keyword {keyword}: teach it"));
            }
        }
        if is_free(r) {
            return;
        }
        if is_free(w) {
            return say("what may hold anything may not be bound, nor the other way round".to_owned());
        }
        let writers = alternatives(w);
        if let Some(writers) = writers {
            return writers.into_iter().for_each(|w| self.takes(w, r, at, open, found));
        }
        if let Some(readers) = alternatives(r) {
            return self.any_takes(w, &readers, at, open, found);
        }
        self.plain(w, r, at, open, found);
    }

    /// One of several must take it. Which one was meant is the one with the same tags, else the nearest.
    fn any_takes(&self, w: &'a Value, readers: &[&'a Value], at: &str, open: &mut Open, found: &mut Found) {
        let mut nearest: Option<Found> = None;
        for r in readers {
            let mut of_this = Found::new();
            self.takes(w, r, at, open, &mut of_this);
            if of_this.is_empty() {
                return;
            }
            let resolved = (resolve(self.writer, w), resolve(self.reader, r));
            if same_kind(resolved.0, resolved.1) && nearest.as_ref().is_none_or(|n| of_this.len() < n.len()) {
                nearest = Some(of_this);
            }
        }
        found.extend(nearest.unwrap_or_else(|| {
            let rule = match self.way {
                Way::Backward => "a kind of value may not be taken away: the log holds it",
                Way::Forward => "a kind of value may not be added: readers don't know it",
            };
            Found::from([(at.to_owned(), format!("{rule} ({})", kind(resolve(self.writer, w))))])
        }));
    }

    fn plain(&self, w: &'a Value, r: &'a Value, at: &str, open: &mut Open, found: &mut Found) {
        let mut say = |rule: String| {
            found.insert((at.to_owned(), rule));
        };
        let (values, taken) = (values(w), values(r));
        if let Some(taken) = taken {
            let more = values.as_ref().map(|values| values.iter().find(|value| !taken.contains(value)));
            return match (more, self.way) {
                (Some(None), _) => {}
                (None, _) => {
                    say("what was one of some values may not be free, nor the other way round".to_owned())
                }
                (Some(Some(value)), Way::Backward) => {
                    say(format!("a value may not be taken away: the log holds {value}"));
                }
                (Some(Some(value)), Way::Forward) => {
                    say(format!("a value may not be added: readers don't know {value}"));
                }
            };
        }
        if let Some(values) = values {
            let wrong = values.iter().find(|value| !is_of(value, &r["type"]));
            return wrong
                .map_or((), |value| say(format!("a field keeps its type: {value} is no {}", r["type"])));
        }
        let (of, to) = (&w["type"], &r["type"]);
        if of != to && !(of == "integer" && to == "number") {
            let (old, new) = if self.way == Way::Backward { (of, to) } else { (to, of) };
            return say(format!("a field keeps its type: it was {old} and is {new}"));
        }
        for (bound, narrower) in BOUNDS {
            if narrower(&w[*bound], &r[*bound]) {
                say(format!("bounds stay: {bound} has moved"));
            }
        }
        if !r["pattern"].is_null() && r["pattern"] != w["pattern"] {
            say("a pattern stays".to_owned());
        }
        if r["uniqueItems"] == true && w["uniqueItems"] != true {
            say("a list without doubles stays so".to_owned());
        }
        match of.as_str() {
            Some("array") => self.list(w, r, at, open, found),
            Some("object") => self.object(w, r, at, open, found),
            _ => {}
        }
    }

    fn list(&self, w: &'a Value, r: &'a Value, at: &str, open: &mut Open, found: &mut Found) {
        let items = format!("{at}[]");
        match (w["prefixItems"].as_array(), r["prefixItems"].as_array()) {
            (None, None) => {}
            (Some(w), Some(r)) if w.len() == r.len() => {
                w.iter().zip(r).for_each(|(w, r)| self.takes(w, r, &items, open, found));
            }
            _ => {
                found.insert((at.to_owned(), "a list keeps its places".to_owned()));
            }
        }
        self.takes(&w["items"], &r["items"], &items, open, found);
    }

    fn object(&self, w: &'a Value, r: &'a Value, at: &str, open: &mut Open, found: &mut Found) {
        let under = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        let (always, needed) = (names(&w["required"]), names(&r["required"]));
        for name in needed.difference(&always) {
            let rule = match self.way {
                Way::Backward => "a field may not become required: the log holds records without it",
                Way::Forward => {
                    "a required field may not be removed, nor become optional: readers count on it"
                }
            };
            found.insert((under(name), rule.to_owned()));
        }
        for (name, of) in w["properties"].as_object().into_iter().flatten() {
            if let Some(to) = r["properties"].get(name) {
                self.takes(of, to, &under(name), open, found);
            } else if r["additionalProperties"] != false {
                self.takes(of, &r["additionalProperties"], &under(name), open, found);
            } else if self.way == Way::Backward {
                let rule = "a field may not be removed: the log holds records with it";
                found.insert((under(name), rule.to_owned()));
            }
        }
        if w["additionalProperties"] != false {
            if r["additionalProperties"] == false {
                found.insert((at.to_owned(), "an object of any keys stays so".to_owned()));
            } else {
                self.takes(&w["additionalProperties"], &r["additionalProperties"], &under("*"), open, found);
            }
        }
        if w["patternProperties"] != r["patternProperties"] {
            found.insert((at.to_owned(), "patterns of keys stay".to_owned()));
        }
    }
}

type Narrower = fn(&Value, &Value) -> bool;

/// Whether the reader's bound is narrower than the writer's.
const BOUNDS: &[(&str, Narrower)] = &[
    ("minimum", |w, r| beyond(r, w)),
    ("maximum", |w, r| beyond(w, r)),
    ("minItems", |w, r| beyond(r, w)),
    ("maxItems", |w, r| beyond(w, r)),
];

/// Whether `a` lies above `b`, where no bound means that it does unless both have none.
fn beyond(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.to_string().parse::<i128>().ok();
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a > b,
        (a, b) => a.is_some() != b.is_some(),
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    // A reference of ours always points to a definition, never to another reference.
    let target = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Takes anything: it says no more than what it is for.
fn is_free(schema: &Value) -> bool {
    let speaks = |keyword: &String| !matches!(keyword.as_str(), "description" | "title" | "$schema" | "$id");
    match schema {
        Value::Object(keywords) => !keywords.keys().any(speaks),
        Value::Bool(free) => *free,
        Value::Null => true,
        Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
}

fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let all = schema["oneOf"].as_array().or(schema["anyOf"].as_array())?;
    Some(all.iter().collect())
}

/// The values it is one of.
fn values(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(value) = schema.get("const") {
        return Some(vec![value]);
    }
    schema["enum"].as_array().map(|values| values.iter().collect())
}

fn is_of(value: &Value, of: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    of == name || of.as_array().is_some_and(|of| of.iter().any(|of| of == name))
}

fn names(required: &Value) -> BTreeSet<&str> {
    required.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether two alternatives speak of the same: objects by their constant fields, or by their only field.
fn same_kind(a: &Value, b: &Value) -> bool {
    let tags = |schema: &Value| -> BTreeSet<String> {
        let fields = schema["properties"].as_object().into_iter().flatten();
        fields.filter_map(|(name, of)| Some(format!("{name}={}", of.get("const")?))).collect()
    };
    let type_of = |schema: &Value| schema["type"].clone();
    type_of(a) == type_of(b) && tags(a) == tags(b)
}

fn kind(schema: &Value) -> String {
    match schema["description"].as_str() {
        Some(text) => text.to_owned(),
        None => schema.to_string().chars().take(80).collect(),
    }
}
