//! Which schema a record is written with, and under which subject it is registered.

use std::sync::LazyLock;

use apache_avro::Schema;
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{Fault, Topic};

use crate::shape::Shape;

/// A schema of `schemas/avro`, ready to use.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its file, for faults.
    pub(crate) file: &'static str,
    /// As it is registered.
    pub(crate) text: &'static str,
    pub(crate) schema: Schema,
    pub(crate) shape: Shape,
}

/// Where a form is used: the subject is `PREFIX.TOPIC-SUFFIX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Use {
    pub(crate) topic: Topic,
    pub(crate) form: usize,
    suffix: &'static str,
}

impl Use {
    pub(crate) fn subject(self, prefix: &str) -> String {
        format!("{prefix}.{}-{}", self.topic.name(), self.suffix)
    }
}

macro_rules! forms {
    ($($name:ident = $number:literal, $file:literal;)*) => {
        $(const $name: usize = $number;)*
        const FILES: &[(&str, &str)] = &[$(($file, include_str!(concat!("../../../schemas/avro/", $file))),)*];
    };
}

forms! {
    IDENTITY = 0, "identities.v1.avsc";
    MEMBERSHIP = 1, "memberships.v1.avsc";
    CHANGE = 2, "membership-changes.v1.avsc";
    COUNT = 3, "segment-counts.v1.avsc";
    CATALOG = 4, "catalog.v1.avsc";
    QUARANTINED = 5, "quarantine.v1.avsc";
    CHECK = 6, "control-check.v1.avsc";
    WATERMARK = 7, "control-watermark.v1.avsc";
}

/// Every subject there is.
pub(crate) const USES: &[Use] = &[
    Use { topic: Topic::Identities, form: IDENTITY, suffix: "value" },
    Use { topic: Topic::Memberships, form: MEMBERSHIP, suffix: "value" },
    Use { topic: Topic::MembershipChanges, form: CHANGE, suffix: "value" },
    Use { topic: Topic::SegmentCounts, form: COUNT, suffix: "value" },
    Use { topic: Topic::Catalog, form: CATALOG, suffix: "value" },
    Use { topic: Topic::Quarantine, form: QUARANTINED, suffix: "value" },
    Use { topic: Topic::MembershipChanges, form: CHECK, suffix: "rollcall.CheckPassed" },
    Use { topic: Topic::SegmentCounts, form: CHECK, suffix: "rollcall.CheckPassed" },
    Use { topic: Topic::SegmentCounts, form: WATERMARK, suffix: "rollcall.Watermark" },
];

/// How a record stands on the broker; nothing where it stays JSON: on the internal topics, and a control record that no
/// schema speaks of.
pub(crate) fn use_of(topic: Topic, key: &[u8]) -> Option<Use> {
    let control = key.strip_prefix(CONTROL_KEY.as_bytes());
    let (form, suffix) = match (topic, control) {
        (Topic::Identities, None) => (IDENTITY, "value"),
        (Topic::Memberships, None) => (MEMBERSHIP, "value"),
        (Topic::MembershipChanges, None) => (CHANGE, "value"),
        (Topic::SegmentCounts, None) => (COUNT, "value"),
        (Topic::Catalog, None) => (CATALOG, "value"),
        (Topic::Quarantine, None) => (QUARANTINED, "value"),
        (Topic::MembershipChanges | Topic::SegmentCounts, Some(b"check")) => (CHECK, "rollcall.CheckPassed"),
        (Topic::SegmentCounts, Some(name)) if name.starts_with(b"watermark/") => {
            (WATERMARK, "rollcall.Watermark")
        }
        (
            Topic::IdentityChanges
            | Topic::Catalog
            | Topic::CatalogRows
            | Topic::Identities
            | Topic::Memberships
            | Topic::MembershipChanges
            | Topic::SegmentCounts
            | Topic::Quarantine
            | Topic::Progress
            | Topic::Checks,
            _,
        ) => return None,
    };
    Some(Use { topic, form, suffix })
}

static FORMS: LazyLock<Result<Vec<Form>, String>> = LazyLock::new(|| {
    let form = |(file, text): &(&'static str, &'static str)| {
        let schema = Schema::parse_str(text).map_err(|e| format!("schemas/avro/{file}: {e}"))?;
        let shape = Shape::of(&schema).map_err(|e| format!("schemas/avro/{file}: {e}"))?;
        Ok(Form { file, text, schema, shape })
    };
    FILES.iter().map(form).collect()
});

/// All of them; they are part of the program, so that one that can't be read is a fault of ours.
pub(crate) fn forms() -> Result<&'static [Form], Fault> {
    match &*FORMS {
        Ok(forms) => Ok(forms),
        Err(what) => {
            Err(Fault::bug(what.clone()).repair("report it: a release holds schemas that it can't read"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_reached_and_every_form_used() {
        let keys: [&[u8]; 4] = [b"core/1", b"control/check", b"control/watermark/core", b"control/other"];
        let mut reached: Vec<Use> =
            Topic::ALL.iter().flat_map(|topic| keys.iter().filter_map(|key| use_of(*topic, key))).collect();
        reached.sort_by_key(|of| USES.iter().position(|known| known == of));
        assert_eq!(reached, USES);
        for (number, form) in forms().unwrap().iter().enumerate() {
            let of = USES.iter().find(|of| of.form == number).unwrap();
            let name = form.schema.name().unwrap().to_string();
            let control = form.file.strip_prefix("control-").is_some();
            assert_eq!(of.suffix, if control { name.as_str() } else { "value" });
            assert!(control || form.file == format!("{}.v1.avsc", of.topic.name()), "{}", form.file);
        }
    }

    #[test]
    fn a_name_means_the_same_in_every_file() {
        // Code generators put all of them into one package.
        fn named(value: &serde_json::Value, found: &mut Vec<(String, serde_json::Value)>) {
            if let Some(name) =
                value.get("name").filter(|_| value.get("symbols").or(value.get("fields")).is_some())
            {
                found.push((name.as_str().unwrap().to_owned(), value.clone()));
            }
            for item in value.as_array().into_iter().flatten() {
                named(item, found);
            }
            for field in value.as_object().into_iter().flat_map(|fields| fields.values()) {
                named(field, found);
            }
        }
        let mut found = Vec::new();
        for (_, text) in FILES {
            named(&serde_json::from_str(text).unwrap(), &mut found);
        }
        for (name, schema) in &found {
            let other = found.iter().find(|(other, is)| other == name && is != schema);
            assert!(other.is_none(), "{name} has two meanings");
        }
    }
}
