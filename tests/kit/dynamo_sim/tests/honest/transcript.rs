//! What a script of requests was answered, with ids and times taken out, and how two such transcripts differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::clients::Clients;

/// Answers, by the name of the step.
#[derive(Debug, Default)]
pub(crate) struct Transcript(BTreeMap<String, Value>);

impl Transcript {
    /// Notes what the SDK has just been answered. `ok` is whether it could make sense of it as a success.
    pub(crate) fn note(&mut self, clients: &Clients, step: &str, ok: bool) {
        let (status, body) = clients.heard();
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{step}: no JSON: {body}"));
        assert_eq!(ok, status == 200, "{step}: {status} {body}");
        let noted = if ok { normal(&body) } else { refusal(status, &body) };
        assert!(self.0.insert(step.to_owned(), noted).is_none(), "two steps are called {step}");
    }
}

/// Of a refusal: its status and its name. Texts are not compared.
fn refusal(status: u16, body: &Value) -> Value {
    let name = body["__type"].as_str().and_then(|name| name.rsplit('#').next()).unwrap_or("none");
    serde_json::json!({ "refused": name, "status": status })
}

/// Names of what is an id or a time.
const IDS: &[&str] = &[
    "ApproximateCreationDateTime",
    "CreationDateTime",
    "CreationRequestDateTime",
    "EndingSequenceNumber",
    "IndexArn",
    "LastEvaluatedShardId",
    "LatestStreamArn",
    "LatestStreamLabel",
    "NextShardIterator",
    "ParentShardId",
    "SequenceNumber",
    "ShardId",
    "ShardIterator",
    "StartingSequenceNumber",
    "StreamArn",
    "StreamLabel",
    "TableArn",
    "TableId",
    "eventID",
];

/// Names of lists whose order means nothing.
const UNORDERED: &[&str] = &["AttributeDefinitions", "BS", "Items", "NS", "SS"];

/// An answer without ids and times, and with items in one order.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.iter().map(|(name, value)| {
                let is_id = IDS.contains(&name.as_str());
                let value = match value {
                    Value::Null => Value::Null,
                    Value::String(text) if is_id => Value::String(format!("text, {}", ascii_kind(text))),
                    Value::Number(number) if is_id => Value::String(time_kind(name, number)),
                    Value::Array(_) if UNORDERED.contains(&name.as_str()) => sorted(normal(value)),
                    Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => normal(value),
                };
                (name.clone(), value)
            });
            Value::Object(entries.collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(normal).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Seconds since 1970 have ten digits; records say whole ones.
fn time_kind(name: &str, number: &serde_json::Number) -> String {
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let is_whole = fraction.bytes().all(|digit| digit == b'0');
    let of_seconds = if is_whole || name != "ApproximateCreationDateTime" { "" } else { ", with a fraction" };
    format!("a number of {} digits{of_seconds}", whole.len())
}

fn ascii_kind(text: &str) -> &'static str {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        "digits"
    } else if text.starts_with("arn:aws:dynamodb:") {
        "an ARN"
    } else if text.starts_with("shardId-") {
        "a shard"
    } else {
        "other"
    }
}

fn sorted(value: Value) -> Value {
    let Value::Array(mut list) = value else { return value };
    list.sort_by_key(ToString::to_string);
    Value::Array(list)
}

/// A place where two transcripts differ.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) step: String,
    pub(crate) path: String,
    pub(crate) ours: Option<Value>,
    pub(crate) theirs: Option<Value>,
}

/// A difference that is as it should be.
#[derive(Debug)]
pub(crate) struct Exception {
    /// The step, or what the names of several hold.
    pub(crate) step: &'static str,
    /// How the path of the difference ends.
    pub(crate) path: &'static str,
    /// Why.
    #[allow(dead_code, reason = "for the reader")]
    pub(crate) why: &'static str,
}

/// Every place where two transcripts differ.
pub(crate) fn differences(ours: &Transcript, theirs: &Transcript) -> Vec<Difference> {
    let steps: BTreeSet<&String> = ours.0.keys().chain(theirs.0.keys()).collect();
    let mut all = Vec::new();
    for step in steps {
        compare(step, "", ours.0.get(step), theirs.0.get(step), &mut all);
    }
    all
}

fn compare(step: &str, path: &str, ours: Option<&Value>, theirs: Option<&Value>, into: &mut Vec<Difference>) {
    if ours == theirs || (numbers_equal(ours, theirs)) {
        return;
    }
    match (ours, theirs) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                compare(step, &format!("{path}/{name}"), a.get(name), b.get(name), into);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (nth, (a, b)) in a.iter().zip(b).enumerate() {
                compare(step, &format!("{path}/{nth}"), Some(a), Some(b), into);
            }
        }
        _ => into.push(Difference {
            step: step.to_owned(),
            path: path.to_owned(),
            ours: ours.cloned(),
            theirs: theirs.cloned(),
        }),
    }
}

/// 1 and 1.0 are the same number to every reader of JSON.
fn numbers_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    matches!((a.and_then(Value::as_f64), b.and_then(Value::as_f64)), (Some(a), Some(b)) if a == b)
}

/// That what differs is excepted, and what is excepted differs.
pub(crate) fn check(differences: &[Difference], exceptions: &[Exception]) {
    let fits = |difference: &Difference, exception: &Exception| {
        difference.step.contains(exception.step) && difference.path.ends_with(exception.path)
    };
    let unexpected: Vec<String> = differences
        .iter()
        .filter(|difference| !exceptions.iter().any(|exception| fits(difference, exception)))
        .map(|Difference { step, path, ours, theirs }| {
            let text =
                |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            format!("{step} {path}\n    simulator: {}\n    emulator:  {}", text(ours), text(theirs))
        })
        .collect();
    assert!(unexpected.is_empty(), "the simulator differs from DynamoDB Local:\n{}", unexpected.join("\n"));
    for exception in exceptions {
        let met = differences.iter().any(|difference| fits(difference, exception));
        assert!(met, "nothing differs any more where it was excepted: {exception:?}");
    }
}
