//! A record of the stream in; the item it is of, and what became of it, out. Nothing of a value is lost on the way.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};
use aws_smithy_types::base64;
use rollcall_model::{
    Attribute, Fault, Item, ItemChange, ItemState, Lane, NativeId, Point, Position, Sequence,
};

/// What a record says. `unsaid_us` is its time where it says none.
pub(crate) fn change(record: Record, lane: &Lane, key: &str, unsaid_us: i64) -> Result<ItemChange, Fault> {
    let event = record.event_name;
    let record = record.dynamodb.unwrap_or_else(|| {
        // All that follows then says what it lacks.
        aws_sdk_dynamodbstreams::types::StreamRecord::builder().build()
    });
    let said = record.sequence_number.unwrap_or_default();
    let sequence: Sequence = said.parse().map_err(|error: String| {
        Fault::refused(format!("a record of the shard {} has no place: {error}", lane.stream))
    })?;
    let id = match record.keys.as_ref().and_then(|keys| keys.get(key)) {
        Some(AttributeValue::S(text)) => NativeId::Text(text.as_str().into()),
        _ => {
            let shard = &lane.stream;
            return Err(Fault::refused(format!(
                "the record {sequence} of the shard {shard} has no key {key} that is a text"
            ))
            .repair("correct the source's table: this is not the platform's table of identities"));
        }
    };
    let state = match (event, record.new_image) {
        (Some(OperationType::Remove), _) => ItemState::Absent,
        (Some(OperationType::Insert | OperationType::Modify), Some(image)) => ItemState::Present(item(image)),
        (Some(OperationType::Insert | OperationType::Modify), None) => {
            ItemState::Broken("the record has no new image".to_owned())
        }
        (Some(other), _) => {
            ItemState::Broken(format!("the record is of the unknown kind {}", other.as_str()))
        }
        (None, _) => ItemState::Broken("the record is of no kind".to_owned()),
    };
    let at_us =
        record.approximate_creation_date_time.and_then(|at| i64::try_from(at.as_nanos() / 1_000).ok());
    let position = Position { lane: lane.clone(), point: Point::Dynamodb { sequence } };
    Ok(ItemChange { id, state, at_us: at_us.unwrap_or(unsaid_us), position })
}

fn item(attributes: HashMap<String, AttributeValue>) -> Item {
    attributes.into_iter().map(|(name, value)| (name, attribute(value))).collect()
}

// The SDK's enum grows, and its own name for what it doesn't know is private.
#[expect(clippy::wildcard_enum_match_arm)]
fn attribute(value: AttributeValue) -> Attribute {
    match value {
        AttributeValue::S(text) => Attribute::S(text),
        AttributeValue::N(number) => Attribute::N(number),
        AttributeValue::B(bytes) => Attribute::B(base64::encode(bytes)),
        AttributeValue::Bool(value) => Attribute::Bool(value),
        AttributeValue::Null(_) => Attribute::Null,
        AttributeValue::M(map) => Attribute::M(item(map)),
        AttributeValue::L(list) => Attribute::L(list.into_iter().map(attribute).collect()),
        AttributeValue::Ss(texts) => Attribute::Ss(texts),
        AttributeValue::Ns(numbers) => Attribute::Ns(numbers),
        AttributeValue::Bs(all) => Attribute::Bs(all.into_iter().map(base64::encode).collect()),
        // The SDK doesn't say which.
        _ => Attribute::Unknown("a type that is not known".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::types::StreamRecord;
    use aws_smithy_types::{Blob, DateTime};

    use super::*;

    fn lane() -> Lane {
        Lane { source: "edge".into(), stream: "shardId-1".to_owned(), epoch: 1 }
    }

    fn record(event: Option<OperationType>, image: Option<Vec<(&str, AttributeValue)>>) -> Record {
        let mut inner = StreamRecord::builder()
            .sequence_number("000000000000000000042")
            .approximate_creation_date_time(DateTime::from_secs(7))
            .keys("composite_key", AttributeValue::S("env_a".to_owned()));
        if let Some(image) = image {
            let image = image.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            inner = inner.set_new_image(Some(image));
        }
        Record::builder().set_event_name(event).dynamodb(inner.build()).build()
    }

    #[test]
    fn values_of_every_type_arrive_as_they_are() {
        let number = "12345678901234567890123456789012345678";
        let image = vec![
            ("n", AttributeValue::N(number.to_owned())),
            ("b", AttributeValue::B(Blob::new([0, 255]))),
            ("bs", AttributeValue::Bs(vec![Blob::new([1])])),
            ("null", AttributeValue::Null(true)),
            (
                "l",
                AttributeValue::L(vec![
                    AttributeValue::Bool(false),
                    AttributeValue::Ss(vec!["x".to_owned()]),
                ]),
            ),
            ("m", AttributeValue::M([("k".to_owned(), AttributeValue::Ns(vec!["1.0".to_owned()]))].into())),
        ];
        let change = change(record(Some(OperationType::Insert), Some(image)), &lane(), "composite_key", 0);
        let change = change.expect("a change");
        assert_eq!(change.id, NativeId::Text("env_a".into()));
        assert_eq!((change.at_us, change.position.to_string()), (7_000_000, "shardId-1:42".to_owned()));
        let ItemState::Present(item) = change.state else { panic!("{:?}", change.state) };
        let json = serde_json::to_string(&item);
        let want = format!(
            r#"{{"b":{{"B":"AP8="}},"bs":{{"BS":["AQ=="]}},"l":{{"L":[{{"BOOL":false}},{{"SS":["x"]}}]}},"m":{{"M":{{"k":{{"NS":["1.0"]}}}}}},"n":{{"N":"{number}"}},"null":{{"NULL":true}}}}"#
        );
        assert_eq!(json.expect("JSON"), want);
    }

    #[test]
    fn what_a_record_lacks_breaks_its_item_alone_or_is_refused() {
        let said = |record: Record| change(record, &lane(), "composite_key", 3);
        let gone = said(record(Some(OperationType::Remove), None)).expect("a change");
        assert_eq!(gone.state, ItemState::Absent);
        for event in [Some(OperationType::Modify), Some(OperationType::from("PURGE")), None] {
            let change = said(record(event, None)).expect("a change");
            assert!(matches!(change.state, ItemState::Broken(_)), "{change:?}");
        }
        let mut keyless = record(Some(OperationType::Insert), None);
        keyless.dynamodb.as_mut().expect("a record").keys = None;
        let fault = said(keyless).expect_err("no key");
        assert!(fault.what.contains("shardId-1") && fault.what.contains("42"), "{fault}");
        let mut placeless = record(Some(OperationType::Insert), None);
        placeless.dynamodb.as_mut().expect("a record").sequence_number = None;
        assert!(said(placeless).is_err());
        assert!(said(Record::builder().build()).is_err());
        let mut timeless = record(Some(OperationType::Remove), None);
        timeless.dynamodb.as_mut().expect("a record").approximate_creation_date_time = None;
        assert_eq!(said(timeless).expect("a change").at_us, 3);
    }
}
