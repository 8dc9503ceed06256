//! Lines of JSON for `LineReader`: the shape that it reads, any JSON in its places, now and then cut or broken.

use arbitrary::{Result, Unstructured};

use super::vocabulary::{KEYS, OPERATORS, PATHS, PATTERNS, TEXTS};

/// Values within a value.
const DEPTH_MAX: usize = 5;
/// Nestings of one list or rule within another, some beyond every limit.
const NESTINGS: [usize; 5] = [0, 0, 0, 300, 1_100];

pub(super) fn text(input: &mut Unstructured<'_>) -> Result<String> {
    let mut line = if input.ratio(1, 20)? { json(input, DEPTH_MAX)? } else { case(input)? };
    if input.ratio(1, 10)? {
        let at = input.int_in_range(0..=line.len())?;
        if line.is_char_boundary(at) {
            line.insert_str(at, &super::text(input, TEXTS)?);
        }
    }
    Ok(line)
}

fn case(input: &mut Unstructured<'_>) -> Result<String> {
    let environment = object(input, &[("key", string), ("name", string)])?;
    let identity = object(input, &[("identifier", string), ("key", string), ("traits", traits)])?;
    let mut rules = String::new();
    for _ in 0..input.int_in_range(0..=2)? {
        rules.push_str(if rules.is_empty() { "" } else { "," });
        rules.push_str(&rule(input, 2)?);
    }
    let nestings = *input.choose(&NESTINGS)?;
    let (open, close) = (r#"{"type":"ALL","rules":["#.repeat(nestings), "]}".repeat(nestings));
    let (key, more) =
        (string(input)?, if input.ratio(1, 8)? { json(input, DEPTH_MAX)? } else { "{}".into() });
    Ok(format!(
        r#"{{"context":{{"environment":{environment},"identity":{identity},"features":{more}}},"segment":{{"key":{key},"name":"s","rules":[{open}{rules}{close}]}}}}"#
    ))
}

type Write = fn(&mut Unstructured<'_>) -> Result<String>;

/// An object of these keys, mostly, some of anything, and others.
fn object(input: &mut Unstructured<'_>, entries: &[(&str, Write)]) -> Result<String> {
    let mut parts = Vec::new();
    for (key, write) in entries {
        match input.int_in_range(0..=29)? {
            0 => {}
            1 => parts.push(format!(r#""{key}":{}"#, json(input, 2)?)),
            _ => parts.push(format!(r#""{key}":{}"#, write(input)?)),
        }
        if input.ratio(1, 12)? {
            parts.push(format!("{}:{}", string(input)?, json(input, 2)?));
        }
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

fn traits(input: &mut Unstructured<'_>) -> Result<String> {
    let count = input.int_in_range(0..=4)?;
    let entry = |_| Ok(format!("{}:{}", quoted(input.choose(KEYS)?), json(input, 0)?));
    Ok(format!("{{{}}}", (0..count).map(entry).collect::<Result<Vec<_>>>()?.join(",")))
}

fn rule(input: &mut Unstructured<'_>, depth: usize) -> Result<String> {
    let rule_type = *input.choose(&["ALL", "ANY", "NONE", "all", ""])?;
    let count = input.int_in_range(0..=3)?;
    let conditions = (0..count).map(|_| condition(input)).collect::<Result<Vec<_>>>()?.join(",");
    let count = input.int_in_range(0..=if depth == 0 { 0 } else { 2 })?;
    let rules = (0..count).map(|_| rule(input, depth - 1)).collect::<Result<Vec<_>>>()?.join(",");
    Ok(format!(r#"{{"type":"{rule_type}","conditions":[{conditions}],"rules":[{rules}]}}"#))
}

fn condition(input: &mut Unstructured<'_>) -> Result<String> {
    object(input, &[("operator", operator), ("property", property), ("value", operand)])
}

fn operator(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(quoted(input.choose(OPERATORS)?))
}

fn property(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(quoted(&if input.ratio(1, 2)? {
        format!("$.{}", super::text(input, PATHS)?)
    } else {
        (*input.choose(KEYS)?).to_owned()
    }))
}

fn operand(input: &mut Unstructured<'_>) -> Result<String> {
    let pieces = if input.ratio(1, 2)? { TEXTS } else { PATTERNS };
    Ok(quoted(&super::text(input, pieces)?))
}

fn string(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(quoted(&super::text(input, KEYS)?))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn json(input: &mut Unstructured<'_>, depth: usize) -> Result<String> {
    Ok(match input.int_in_range(0..=if depth == 0 { 7 } else { 9 })? {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => input.arbitrary::<i64>()?.to_string(),
        3 => format!("{:?}", input.arbitrary::<f32>()?),
        4 => (*input.choose(&["NaN", "-Infinity", "1e400", "-0", "0.0", "[", "00"])?).to_owned(),
        5 => "9".repeat(*input.choose(&[20, 400, 4_300, 4_301])?),
        6 => format!("\"{}\"", super::text(input, TEXTS)?),
        7 => string(input)?,
        8 => {
            let nestings = *input.choose(&NESTINGS)?;
            format!("{}{}{}", "[".repeat(nestings), json(input, depth - 1)?, "]".repeat(nestings))
        }
        _ => {
            let count = input.int_in_range(0..=3)?;
            let entry = |_| Ok(format!("{}:{}", string(input)?, json(input, depth - 1)?));
            format!("{{{}}}", (0..count).map(entry).collect::<Result<Vec<_>>>()?.join(","))
        }
    })
}
