//! Python's `str()` of values, in SQL.
//!
//! ClickHouse prints the shortest digits that give a float back, as Python does, and arranges them otherwise:
//!
//! | float | ClickHouse | Python |
//! |---|---|---|
//! | 10 | `10` | `10.0` |
//! | 1e16 to 1e21 | `15000000000000000` | `1.5e+16` |
//! | below 1e-4 | `0.000015`, `1.5e-7` | `1.5e-05`, `1.5e-07` |
//! | from 1e21 | `1.5e22` | `1.5e+22` |

use super::names::Names;
use super::number::{float_of, is_decimal};

/// `str()` of text's value, text being the form of a number or not.
pub(super) fn of_text(text: &str, names: &mut Names<'_>) -> String {
    let float = repr(&float_of(text), names);
    names.part(format!("if({}, {float}, {})", is_decimal(text), canonical_int(text)))
}

/// `str()` of a trait's value; NULL where there is none, where it is a bool, and where it is a float that isn't finite.
pub(super) fn of_trait(trait_path: &str, names: &mut Names<'_>) -> String {
    let int = element(trait_path, "Int64", names);
    let text = element(trait_path, "String", names);
    let stored = element(trait_path, "Float64", names);
    let float = names.part(format!("if(ifNull({}, 0), {}, {stored})", is_decimal(&text), float_of(&text)));
    let repr = repr(&float, names);
    names.part(format!(
        "multiIf(isNotNull({int}), toString({int}), isNotNull({float}), {repr}, {})",
        canonical_int(&text)
    ))
}

/// What a trait is where it is of this type, else NULL.
pub(super) fn element(trait_path: &str, type_name: &str, names: &mut Names<'_>) -> String {
    names.part(format!("dynamicElement({trait_path}, '{type_name}')"))
}

/// Text that looks like an int as Python prints the int; other text as it is.
pub(super) fn canonical_int(text: &str) -> String {
    format!("replaceRegexpOne(replaceRegexpOne({text}, '^(-?)0+([0-9]+)$', '\\\\1\\\\2'), '^-0$', '0')")
}

/// `repr()` of a float.
fn repr(float: &str, names: &mut Names<'_>) -> String {
    let printed = names.part(format!("toString({float})"));
    REPR.replace(PRINTED, &printed)
}

/// What stands for ClickHouse's text of the float in [`REPR`].
const PRINTED: &str = "$u";

/// From ClickHouse's text of a float to Python's.
const REPR: &str = concat!(
    "multiIf(",
    r"position($u, 'e') > 0, replaceRegexpOne(replaceRegexpOne($u, 'e([0-9])', 'e+\\1'), '([+-])([0-9])$', '\\10\\2'), ",
    "match($u, '^-?[0-9]{17,}$'), concat(",
    r"replaceRegexpOne(replaceRegexpOne($u, '^(-?[0-9])([0-9]*?)0*$', '\\1.\\2'), '[.]$', ''), ",
    "'e+', toString(length($u) - 1 - startsWith($u, '-'))), ",
    "match($u, '^-?0[.]0000'), concat(",
    r"replaceRegexpOne(replaceRegexpOne($u, '^(-?)0[.]0+([1-9])([0-9]*)$', '\\1\\2.\\3'), '[.]$', ''), ",
    "if(position($u, '.00000') > 0, 'e-06', 'e-05')), ",
    "match($u, '[.nf]'), $u, ",
    "concat($u, '.0'))",
);
