//! Actions of one table: what it is, one item, pages of items.

use std::collections::BTreeMap;

use rollcall_model::{Attribute, Item};
use serde::Deserialize;
use serde_json::json;

use super::expression::{Condition, Test, Words};
use super::{json as text, parse};
use crate::core::{ApiError, Core, Page, Stored};

/// That the table is the one that is there; it may be named by its ARN too.
pub(super) fn check_table(core: &Core, name: &str) -> Result<(), ApiError> {
    if name == core.settings.table || name == core.table_arn() {
        return Ok(());
    }
    Err(ApiError::not_found("Requested resource not found"))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PutItem {
    table_name: String,
    item: Item,
    return_values: Option<String>,
    return_consumed_capacity: Option<String>,
}

pub(super) fn put_item(core: &mut Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: PutItem = parse(body)?;
    check_table(core, &asked.table_name)?;
    let old = core.put(asked.item)?;
    write_answer(
        core,
        old.as_deref(),
        asked.return_values.as_deref(),
        asked.return_consumed_capacity.as_deref(),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteItem {
    table_name: String,
    key: Item,
    return_values: Option<String>,
    return_consumed_capacity: Option<String>,
}

pub(super) fn delete_item(core: &mut Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: DeleteItem = parse(body)?;
    check_table(core, &asked.table_name)?;
    let key = whole_key(core, &asked.key)?;
    let old = core.delete(&key);
    write_answer(
        core,
        old.as_deref(),
        asked.return_values.as_deref(),
        asked.return_consumed_capacity.as_deref(),
    )
}

fn write_answer(
    core: &Core,
    old: Option<&Stored>,
    returns: Option<&str>,
    capacity: Option<&str>,
) -> Result<String, ApiError> {
    let attributes = match returns {
        None | Some("NONE") => None,
        Some("ALL_OLD") => old.map(|old| old.json.clone()),
        Some(_) => return Err(ApiError::validation("ReturnValues can only be ALL_OLD or NONE")),
    };
    let bytes = old.map_or(1, |old| old.bytes);
    let mut answer = Answer::default();
    if let Some(attributes) = attributes {
        answer.add("Attributes", &attributes);
    }
    answer.add_capacity(core, capacity, bytes.div_ceil(1024) as f64);
    Ok(answer.done())
}

/// The key of a request that names one item.
pub(super) fn whole_key(core: &Core, key: &Item) -> Result<std::sync::Arc<str>, ApiError> {
    let wrong = || ApiError::validation("The provided key element does not match the schema");
    if key.len() != 1 {
        return Err(wrong());
    }
    match key.get(&core.settings.key_name) {
        Some(Attribute::S(_)) => core.table.key_of(key),
        Some(_) | None => Err(wrong()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetItem {
    table_name: String,
    key: Item,
    consistent_read: Option<bool>,
    return_consumed_capacity: Option<String>,
}

pub(super) fn get_item(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: GetItem = parse(body)?;
    check_table(core, &asked.table_name)?;
    let key = whole_key(core, &asked.key)?;
    let consistent = asked.consistent_read.unwrap_or(false);
    let found = core.table.get(&key, consistent);
    let mut answer = Answer::default();
    if let Some(stored) = found {
        answer.add("Item", &stored.json);
    }
    let units = read_units(found.map_or(1, |stored| stored.bytes), consistent);
    answer.add_capacity(core, asked.return_consumed_capacity.as_deref(), units);
    Ok(answer.done())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Scan {
    table_name: String,
    segment: Option<u32>,
    total_segments: Option<u32>,
    limit: Option<usize>,
    exclusive_start_key: Option<Item>,
    consistent_read: Option<bool>,
    return_consumed_capacity: Option<String>,
    select: Option<String>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    #[serde(default)]
    expression_attribute_names: BTreeMap<String, String>,
    #[serde(default)]
    expression_attribute_values: Item,
}

pub(super) fn scan(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: Scan = parse(body)?;
    check_table(core, &asked.table_name)?;
    let segment = match (asked.segment, asked.total_segments) {
        (None, None) => (0, 1),
        (Some(nth), Some(of)) if nth < of && of <= 1_000_000 => (nth, of),
        (Some(nth), Some(of)) => {
            return Err(ApiError::validation(format!(
                "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: {nth} is not less than TotalSegments: {of}"
            )));
        }
        (None, Some(_)) => {
            return Err(ApiError::validation(
                "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
            ));
        }
        (Some(_), None) => {
            return Err(ApiError::validation(
                "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
            ));
        }
    };
    let after = match &asked.exclusive_start_key {
        Some(key) => Some(whole_key(core, key).map_err(|_| {
            ApiError::validation(
                "The provided starting key is invalid: The provided key element does not match the schema",
            )
        })?),
        None => None,
    };
    let words =
        Words { names: &asked.expression_attribute_names, values: &asked.expression_attribute_values };
    let filter = asked.filter_expression.as_deref().map(|text| Condition::parse(text, &words)).transpose()?;
    let consistent = asked.consistent_read.unwrap_or(false);
    let page = core.table.scan(segment, after.as_deref(), check_limit(asked.limit)?, consistent);
    let shape = Shape::read(asked.select.as_deref(), asked.projection_expression.as_deref(), &words)?;
    let mut answer = page_answer(&page, filter.as_ref(), &shape);
    if let Some(last) = page.items.last().filter(|_| page.cut) {
        answer.add("LastEvaluatedKey", &text(&core.key_attributes(&last.item, false)));
    }
    answer.add_capacity(core, asked.return_consumed_capacity.as_deref(), read_units(page.bytes, consistent));
    Ok(answer.done())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Query {
    table_name: String,
    index_name: Option<String>,
    key_condition_expression: String,
    limit: Option<usize>,
    exclusive_start_key: Option<Item>,
    consistent_read: Option<bool>,
    scan_index_forward: Option<bool>,
    return_consumed_capacity: Option<String>,
    select: Option<String>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    #[serde(default)]
    expression_attribute_names: BTreeMap<String, String>,
    #[serde(default)]
    expression_attribute_values: Item,
}

pub(super) fn query(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: Query = parse(body)?;
    check_table(core, &asked.table_name)?;
    let index = &core.table.index;
    if asked.index_name.as_deref() != Some(&index.name) {
        return Err(ApiError::validation(format!(
            "The table does not have the specified index: {}",
            asked.index_name.as_deref().unwrap_or("(the simulator queries no table)")
        )));
    }
    if asked.consistent_read == Some(true) {
        return Err(ApiError::validation("Consistent reads are not supported on global secondary indexes"));
    }
    let words =
        Words { names: &asked.expression_attribute_names, values: &asked.expression_attribute_values };
    let Condition(conditions) = Condition::parse(&asked.key_condition_expression, &words)?;
    let hash = conditions.iter().find_map(|condition| match &condition.test {
        Test::Equal(Attribute::S(text)) => (condition.name == index.hash).then(|| text.clone()),
        Test::Equal(_)
        | Test::Less(_)
        | Test::LessOrEqual(_)
        | Test::Greater(_)
        | Test::GreaterOrEqual(_)
        | Test::BeginsWith(_)
        | Test::Between(_, _) => None,
    });
    let hash = hash.ok_or_else(|| {
        ApiError::validation(format!("Query condition missed key schema element: {}", index.hash))
    })?;
    let others: Vec<_> = conditions.into_iter().filter(|condition| condition.name != index.hash).collect();
    if others.iter().any(|condition| condition.name != index.range) {
        return Err(ApiError::validation("Query key condition not supported"));
    }
    let wanted = |range: &str| {
        let range = Attribute::S(range.to_owned());
        others.iter().all(|condition| condition.test.holds(&range))
    };
    let after = asked.exclusive_start_key.as_ref().map(|key| core.index_start(key)).transpose()?;
    let after = after.as_ref().map(|(range, key)| (range.as_str(), key.as_str()));
    let filter = asked.filter_expression.as_deref().map(|text| Condition::parse(text, &words)).transpose()?;
    let forward = asked.scan_index_forward.unwrap_or(true);
    let page = core.table.query(&hash, after, check_limit(asked.limit)?, forward, wanted);
    let shape = Shape::read(asked.select.as_deref(), asked.projection_expression.as_deref(), &words)?;
    let mut answer = page_answer(&page, filter.as_ref(), &shape);
    if let Some(last) = page.items.last().filter(|_| page.cut) {
        answer.add("LastEvaluatedKey", &text(&core.key_attributes(&last.item, true)));
    }
    answer.add_capacity(core, asked.return_consumed_capacity.as_deref(), read_units(page.bytes, false));
    Ok(answer.done())
}

fn check_limit(limit: Option<usize>) -> Result<Option<usize>, ApiError> {
    match limit {
        Some(0) => Err(ApiError::validation(
            "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
        )),
        Some(_) | None => Ok(limit),
    }
}

impl Core {
    /// What says where a page ended.
    fn key_attributes(&self, item: &Item, of_index: bool) -> Item {
        let mut names = vec![&self.settings.key_name];
        if of_index {
            names.extend([&self.table.index.hash, &self.table.index.range]);
        }
        names.into_iter().filter_map(|name| Some((name.clone(), item.get(name)?.clone()))).collect()
    }

    fn index_start(&self, key: &Item) -> Result<(String, String), ApiError> {
        let text = |name: &str| match key.get(name) {
            Some(Attribute::S(text)) => Ok(text.clone()),
            Some(_) | None => Err(ApiError::validation("The provided starting key is invalid")),
        };
        text(&self.table.index.hash)?;
        Ok((text(&self.table.index.range)?, text(&self.settings.key_name)?))
    }
}

/// What is sent of the items of a page.
enum Shape {
    Count,
    Whole,
    Attributes(Vec<String>),
}

impl Shape {
    fn read(select: Option<&str>, projection: Option<&str>, words: &Words<'_>) -> Result<Self, ApiError> {
        match (select, projection) {
            (Some("COUNT"), None) => Ok(Self::Count),
            (None | Some("ALL_ATTRIBUTES" | "ALL_PROJECTED_ATTRIBUTES"), None) => Ok(Self::Whole),
            (None | Some("SPECIFIC_ATTRIBUTES"), Some(projection)) => {
                let names = projection.split(',').map(|word| words.name(word.trim()));
                Ok(Self::Attributes(names.collect::<Result<_, _>>()?))
            }
            (Some(_), _) => Err(ApiError::validation("Cannot specify this Select with this projection")),
        }
    }
}

fn page_answer(page: &Page, filter: Option<&Condition>, shape: &Shape) -> Answer {
    let wanted: Vec<&Stored> = page
        .items
        .iter()
        .map(|stored| &**stored)
        .filter(|stored| filter.is_none_or(|filter| filter.holds(&stored.item)))
        .collect();
    let mut answer = Answer::default();
    answer.add("Count", &wanted.len().to_string());
    answer.add("ScannedCount", &page.items.len().to_string());
    let items: Vec<String> = match shape {
        Shape::Count => return answer,
        Shape::Whole => wanted.iter().map(|stored| stored.json.clone()).collect(),
        Shape::Attributes(names) => wanted
            .iter()
            .map(|stored| {
                let some: BTreeMap<&String, &Attribute> =
                    names.iter().filter_map(|name| Some((name, stored.item.get(name)?))).collect();
                text(&some)
            })
            .collect(),
    };
    answer.add("Items", &format!("[{}]", items.join(",")));
    answer
}

/// Read capacity units: 4 KB each, half of one where the read is eventually consistent.
pub(super) fn read_units(bytes: u64, consistent: bool) -> f64 {
    let units = bytes.max(1).div_ceil(4096) as f64;
    if consistent { units } else { units / 2.0 }
}

/// An answer, put together from JSON that is there already.
#[derive(Default)]
pub(super) struct Answer(String);

impl Answer {
    /// `json` under a name.
    pub(super) fn add(&mut self, name: &str, json: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&format!("\"{name}\":"));
        self.0.push_str(json);
    }

    pub(super) fn add_capacity(&mut self, core: &Core, wanted: Option<&str>, units: f64) {
        if matches!(wanted, Some("TOTAL" | "INDEXES")) {
            let table = &core.settings.table;
            let capacity = json!({ "TableName": table, "CapacityUnits": units });
            self.add("ConsumedCapacity", &capacity.to_string());
        }
    }

    pub(super) fn done(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}
