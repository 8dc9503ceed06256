//! The schemas go with their released forms; broken on purpose, each break is named with file, field and rule.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rollcall_schema_check::{Finding, check};
use serde_json::{Value, json};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The schemas as released, one of them edited.
fn edited(file: &str, edit: impl FnOnce(&mut Value)) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["topics", "avro", "arrow"] {
        for to in [kind.to_owned(), format!("released/{kind}")] {
            copy(&schemas().join("released").join(kind), &folder.path().join(to));
        }
    }
    let path = folder.path().join(file);
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut schema);
    std::fs::write(path, serde_json::to_string_pretty(&schema).unwrap()).unwrap();
    check(folder.path()).unwrap()
}

/// The edit has this one consequence: in this file, at this field, a rule with these words.
fn breaks(file: &str, field: &str, words: &str, edit: impl FnOnce(&mut Value)) {
    let findings = edited(file, edit);
    let fits =
        |finding: &&Finding| finding.file == file && finding.field == field && finding.rule.contains(words);
    assert!(findings.iter().any(|finding| fits(&finding)), "{file} {field} {words}: {findings:#?}");
    let fields: BTreeSet<_> = findings.iter().map(|finding| (&finding.file, &finding.field)).collect();
    assert_eq!(fields.len(), 1, "{findings:#?}");
    let line = findings[0].to_string();
    assert!(line.starts_with(&format!("schemas/{file}: ")), "{line}");
}

fn passes(file: &str, edit: impl FnOnce(&mut Value)) {
    let findings = edited(file, edit);
    assert!(findings.is_empty(), "{findings:#?}");
}

fn field<'a>(schema: &'a mut Value, name: &str) -> &'a mut Value {
    schema["fields"].as_array_mut().unwrap().iter_mut().find(|field| field["name"] == name).unwrap()
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn remove(list: &mut Value, item: &str) {
    list.as_array_mut().unwrap().retain(|value| value != item && value["name"] != item);
}

#[test]
fn the_schemas_go_with_their_released_forms() {
    let findings = check(&schemas()).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn what_readers_would_notice_in_json() {
    let file = "topics/memberships.v1.json";
    breaks(file, "version", "may not be removed", |s| {
        s["properties"].as_object_mut().unwrap().remove("version");
        remove(&mut s["required"], "version");
    });
    breaks(file, "version", "nor become optional", |s| remove(&mut s["required"], "version"));
    breaks(file, "segments[].since_us", "keeps its type", |s| {
        s["properties"]["segments"]["items"]["properties"]["since_us"]["type"] = json!("string");
    });
    breaks(file, "region", "may not become required", |s| {
        s["properties"]["region"] = json!({"type": "string"});
        push(&mut s["required"], json!("region"));
    });
    breaks(file, "seq", "bounds stay: maximum", |s| {
        s["properties"]["seq"]["maximum"] = json!(4_294_967_295_u32)
    });
    breaks(file, "id", "a kind of value may not be added", |s| {
        push(&mut s["$defs"]["native_id"]["anyOf"], json!({"type": "boolean", "description": "no id"}));
    });
    breaks(file, "seq", "doesn't know the keyword multipleOf", |s| {
        s["properties"]["seq"]["multipleOf"] = json!(2);
    });
    breaks("topics/membership-changes.v1.json", "cause", "readers don't know \"whim\"", |s| {
        push(&mut s["oneOf"][0]["properties"]["cause"]["enum"], json!("whim"));
    });
    breaks("topics/membership-changes.v1.json", "cause", "the log holds \"gate\"", |s| {
        remove(&mut s["oneOf"][0]["properties"]["cause"]["enum"], "gate");
    });
    breaks("topics/segment-counts.v1.json", "fingerprint", "a pattern stays", |s| {
        s["$defs"]["fingerprint"]["pattern"] = json!("^[0-9a-f]{32}$");
    });
    breaks("topics/segment-counts.v1.json", "", "may not be taken away: the log holds it (Exact.)", |s| {
        s["oneOf"].as_array_mut().unwrap().remove(0);
    });
    breaks("topics/catalog.v1.json", "rules[].conditions[].operator", "keeps its type", |s| {
        let condition = &mut s["$defs"]["rule"]["properties"]["conditions"]["items"];
        condition["properties"]["operator"]["type"] = json!("integer");
    });
    breaks(file, "$id", "urn:rollcall:topics:memberships:v1", |s| {
        s["$id"] = json!("urn:rollcall:topics:x:v1")
    });
}

#[test]
fn what_readers_would_not_notice_in_json() {
    let file = "topics/memberships.v1.json";
    passes(file, |s| s["properties"]["region"] = json!({"type": "string", "description": "New."}));
    passes(file, |s| s["description"] = json!("Said better."));
    passes(file, |s| {
        // A definition instead of the same in place.
        s["$defs"]["member"] = s["properties"]["segments"]["items"].clone();
        s["properties"]["segments"]["items"] = json!({"$ref": "#/$defs/member"});
    });
    // Internal: nobody but us reads it, and we read the old.
    passes("topics/identity-changes.v1.json", |s| {
        push(&mut s["oneOf"], json!({"type": "object", "properties": {"kind": {"const": "new"}}}));
    });
}

#[test]
fn old_records_of_internal_topics_are_still_read() {
    breaks("topics/progress.v1.json", "reads", "may not be removed", |s| {
        s["properties"].as_object_mut().unwrap().remove("reads");
        remove(&mut s["required"], "reads");
    });
}

#[test]
fn what_readers_would_notice_in_avro() {
    let file = "avro/memberships.v1.avsc";
    breaks(file, "version", "may not be removed", |s| remove(&mut s["fields"], "version"));
    breaks(file, "region", "needs a default", |s| {
        push(&mut s["fields"], json!({"name": "region", "type": "string"}));
    });
    breaks(file, "version", "keeps its type", |s| field(s, "version")["type"] = json!("string"));
    breaks(file, "id", "keeps its type", |s| field(s, "id")["type"] = json!(["long"]));
    breaks(file, "segments[].since_us", "older readers can't read", |s| {
        // Avro lets a long be read as a double, but not the other way round.
        field(&mut field(s, "segments")["type"]["items"], "since_us")["type"] = json!("double");
    });
    breaks(file, "seq", "rollcall.json stays", |s| {
        field(s, "seq").as_object_mut().unwrap().remove("rollcall.json");
    });
    breaks("avro/membership-changes.v1.avsc", "cause", "not all of its values", |s| {
        push(&mut field(s, "cause")["type"]["symbols"], json!("whim"));
    });
    breaks("avro/segment-counts.v1.avsc", "reason", "a default stays", |s| {
        field(s, "reason").as_object_mut().unwrap().remove("default");
    });
    breaks("avro/identities.v1.avsc", "place.offset", "keeps its type", |s| {
        field(&mut field(s, "place")["type"], "offset")["type"] = json!("int");
    });
    breaks(file, "", "keeps its name", |s| s["name"] = json!("Roll"));
    passes(file, |s| {
        push(&mut s["fields"], json!({"name": "region", "type": ["null", "string"], "default": null}))
    });
    passes(file, |s| s["doc"] = json!("Said better."));
}

fn column<'a>(schema: &'a mut Value, name: &str) -> &'a mut Value {
    schema["columns"].as_array_mut().unwrap().iter_mut().find(|column| column["name"] == name).unwrap()
}

#[test]
fn what_readers_would_notice_in_columns() {
    for (file, last) in [
        ("arrow/identities.v1.json", "log_id"),
        ("arrow/memberships.v1.json", "log_id"),
        ("arrow/lake_identities.v1.json", "record"),
        ("arrow/lake_segment_counts.v1.json", "log_id"),
    ] {
        breaks(file, last, "may not be removed or renamed", |s| {
            s["columns"].as_array_mut().unwrap().pop();
        });
    }
    let file = "arrow/lake_memberships.v1.json";
    breaks(file, "segments", "keeps its type: it was list<struct<", |s| {
        column(s, "segments")["type"] = json!("list<utf8>");
    });
    breaks(file, "region", "a new column is a new version", |s| {
        push(&mut s["columns"], json!({"name": "region", "type": "utf8", "doc": "New."}));
    });
    breaks(file, "version", "isn't the file's", |s| s["version"] = json!(2));
    breaks(file, "seq", "has no doc", |s| column(s, "seq")["doc"] = json!(""));
    passes(file, |s| column(s, "seq")["doc"] = json!("Said better."));
    let findings = edited(file, |s| s["columns"].as_array_mut().unwrap().swap(0, 1));
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "schemas/arrow/lake_memberships.v1.json: id: a column keeps its place: it was number 1 and is 0",
            "schemas/arrow/lake_memberships.v1.json: source: a column keeps its place: it was number 0 and is 1",
        ]
    );
    let renamed = edited(file, |s| column(s, "seq")["name"] = json!("commit"));
    let rules: Vec<_> = renamed.iter().map(|f| (f.field.as_str(), f.rule.as_str())).collect();
    let (removed, added) =
        ("a column may not be removed or renamed", "a new column is a new version, at its end");
    assert_eq!(rules, [("commit", added), ("seq", removed)]);
}

#[test]
fn a_new_version_adds_columns_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["topics", "avro", "arrow"] {
        for to in [kind.to_owned(), format!("released/{kind}")] {
            copy(&schemas().join("released").join(kind), &folder.path().join(to));
        }
    }
    let file = |version: u32| folder.path().join(format!("arrow/identities.v{version}.json"));
    let released: Value = serde_json::from_str(&std::fs::read_to_string(file(1)).unwrap()).unwrap();
    let next = |version: u32, edit: &dyn Fn(&mut Value)| {
        let mut schema = released.clone();
        schema["version"] = json!(version);
        edit(&mut schema);
        std::fs::write(file(version), schema.to_string()).unwrap();
        let findings = check(folder.path()).unwrap();
        std::fs::remove_file(file(version)).unwrap();
        findings.iter().map(|finding| format!("{} {}", finding.field, finding.rule)).collect::<Vec<_>>()
    };
    let region = json!({"name": "region", "type": "utf8", "doc": "New."});
    assert!(next(2, &|s| push(&mut s["columns"], region.clone())).is_empty());
    let between = next(2, &|s| s["columns"].as_array_mut().unwrap().insert(12, region.clone()));
    assert_eq!(between, ["log_id a column keeps its place: it was number 12 and is 13"]);
    let retyped = next(2, &|s| column(s, "seq")["type"] = json!("uint16"));
    assert_eq!(retyped, ["seq a column keeps its type: it was uint64 and is uint16"]);
    assert_eq!(next(3, &|_| ()), [" version 2 is missing"]);
}

#[test]
fn released_files_stay_and_names_carry_a_version() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["topics", "avro", "arrow"] {
        for to in [kind.to_owned(), format!("released/{kind}")] {
            copy(&schemas().join("released").join(kind), &folder.path().join(to));
        }
    }
    let topics = folder.path().join("topics");
    // A new version beside the old one is the way.
    let text = std::fs::read_to_string(topics.join("memberships.v1.json")).unwrap();
    let text = text.replace(":memberships:v1", ":memberships:v2").replace("\"seq\"", "\"commit\"");
    std::fs::write(topics.join("memberships.v2.json"), &text).unwrap();
    assert_eq!(check(folder.path()).unwrap(), []);
    std::fs::remove_file(topics.join("memberships.v1.json")).unwrap();
    std::fs::write(topics.join("memberships.json"), text).unwrap();
    let findings: Vec<_> = check(folder.path()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "schemas/topics/memberships.json: the record: is not named TOPIC.vN.json",
            "schemas/topics/memberships.v1.json: the record: a released schema stays, also beside a newer version",
        ]
    );
    // No released forms: nothing was compared, which is no success.
    std::fs::remove_dir_all(folder.path().join("released/avro")).unwrap();
    assert!(check(folder.path()).is_err());
}

#[test]
fn the_documentation_calls_public_what_has_an_avro_schema() {
    let text = std::fs::read_to_string(schemas().join("../docs/topics.md")).unwrap();
    let rows = text.lines().filter(|line| line.contains("**public**"));
    let public: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let files: Vec<_> = std::fs::read_dir(schemas().join("avro"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| !file.starts_with("control-"))
        .collect();
    let avro: BTreeSet<_> = files.iter().filter_map(|file| file.strip_suffix(".v1.avsc")).collect();
    assert_eq!(public, avro);
}
