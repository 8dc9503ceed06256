//! How far a scan has come. Pure.

use rollcall_model::shards::Cursor;
use rollcall_model::{Fault, Item};
use serde::{Deserialize, Serialize};

/// How far one segment has been read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SegmentAt {
    /// Not at all.
    Begin,
    /// Up to this key, and with it.
    After(Item),
    /// To its end.
    Done,
}

/// How far a scan has come: everything up to here was given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct At {
    /// The table's id: a table of the same name made anew is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table_id: Option<String>,
    /// The environment that it is bounded to, by its api key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
    /// When it began, less the slack: all of it is at least as new.
    pub(crate) cut_us: i64,
    /// The segments that the table is cut into; an environment is one.
    pub(crate) segments: Vec<SegmentAt>,
}

impl At {
    pub(crate) fn done(&self) -> bool {
        self.segments.iter().all(|segment| *segment == SegmentAt::Done)
    }

    pub(crate) fn cursor(&self) -> Result<Cursor, Fault> {
        let value = serde_json::to_value(self)
            .map_err(|e| Fault::bug("a scan's cursor has no JSON").from_source(e))?;
        Ok(Cursor(value))
    }

    /// Goes on at a cursor, if it is of this table and environment. How the table is cut stays as it was at the start:
    /// a segment's keys mean nothing in another cut.
    pub(crate) fn resume(
        cursor: Cursor,
        table: &str,
        table_id: Option<&str>,
        environment: Option<&str>,
    ) -> Result<Self, Fault> {
        let again = "cancel the backfill and start a new one";
        let at: Self = serde_json::from_value(cursor.0).map_err(|e| {
            Fault::refused(format!("the backfill's cursor is none of a scan: {e}")).repair(again)
        })?;
        if at.segments.is_empty() {
            return Err(Fault::refused("the backfill's cursor has no segments").repair(again));
        }
        if at.environment.as_deref() != environment {
            return Err(Fault::refused(format!(
                "the backfill began with {}, not with {}",
                named(at.environment.as_deref()),
                named(environment)
            ))
            .repair(again));
        }
        // An emulator may give no ids.
        if let (Some(then), Some(now)) = (at.table_id.as_deref(), table_id)
            && then != now
        {
            return Err(Fault::refused(format!(
                "table {table} was made anew (id {now}) since the backfill began with id {then}"
            ))
            .repair(again));
        }
        Ok(at)
    }
}

fn named(environment: Option<&str>) -> String {
    environment.map_or_else(|| "the whole table".to_owned(), |key| format!("environment {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(environment: Option<&str>) -> At {
        let key = serde_json::from_str(r#"{"composite_key":{"S":"a"}}"#).unwrap();
        At {
            table_id: Some("t1".to_owned()),
            environment: environment.map(str::to_owned),
            cut_us: 7,
            segments: vec![SegmentAt::Begin, SegmentAt::After(key), SegmentAt::Done],
        }
    }

    #[test]
    fn a_cursor_is_its_scans_own() {
        let cursor = at(None).cursor().unwrap();
        let json = r#"{"cut_us":7,"segments":["begin",{"after":{"composite_key":{"S":"a"}}},"done"],"table_id":"t1"}"#;
        assert_eq!(cursor.0.to_string(), json);
        assert_eq!(At::resume(cursor.clone(), "t", Some("t1"), None).unwrap(), at(None));
        assert_eq!(At::resume(cursor.clone(), "t", None, None).unwrap(), at(None));
        let said = |cursor: &Cursor, id, environment| {
            At::resume(cursor.clone(), "t", Some(id), environment).unwrap_err().what
        };
        assert!(said(&cursor, "t2", None).contains("made anew"));
        assert!(
            said(&cursor, "t1", Some("e")).contains("began with the whole table, not with environment e")
        );
        let part = at(Some("e")).cursor().unwrap();
        assert!(said(&part, "t1", None).contains("began with environment e"));
        assert!(said(&Cursor(serde_json::json!({"export": "x"})), "t1", None).contains("none of a scan"));
    }

    #[test]
    fn it_is_done_with_its_last_segment() {
        let mut at = at(None);
        assert!(!at.done());
        at.segments = vec![SegmentAt::Done, SegmentAt::Done];
        assert!(at.done());
    }
}
