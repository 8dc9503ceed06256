//! What a predicate's text names: bound values, and parts of expressions that stand in it more than once.
//!
//! ```text
//! if(match(‹0›, …), toFloat64OrZero(‹0›) > {p1:Float64}, ‹0› > {p2:String})        ‹0› = dynamicElement(…)
//!    └─▶ if(match((dynamicElement(…) AS pv0), …), toFloat64OrZero(pv0) > …, pv0 > …)
//! ```
//!
//! ClickHouse analyses a part with a name once. Which parts a text holds is known only when it is finished, since
//! folding drops some; until then a mark stands for each.

use std::collections::HashMap;

use super::param::{Param, ParamValue};

/// Begins and ends a mark; no SQL of ours holds it otherwise.
const MARK: char = '\u{1}';

/// The values and parts of one predicate.
pub(super) struct Names<'a> {
    prefix: &'a str,
    values: Vec<Param>,
    /// By type and text: where it stands in `values`.
    known_values: HashMap<(&'static str, String), usize>,
    parts: Vec<String>,
    /// Where it stands in `parts`.
    known_parts: HashMap<String, usize>,
}

impl<'a> Names<'a> {
    /// All names begin with the prefix.
    pub(super) fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            values: Vec::new(),
            known_values: HashMap::new(),
            parts: Vec::new(),
            known_parts: HashMap::new(),
        }
    }

    /// Binds a value; gives what stands for it in the text. Equal values have one name.
    pub(super) fn bind(&mut self, value: ParamValue) -> String {
        let at = *self.known_values.entry((value.type_name(), value.http_text())).or_insert_with(|| {
            self.values.push(Param { name: format!("{}{}", self.prefix, self.values.len()), value });
            self.values.len() - 1
        });
        let Param { name, value } = &self.values[at];
        format!("{{{name}:{}}}", value.type_name())
    }

    pub(super) fn bind_text(&mut self, text: impl Into<String>) -> String {
        self.bind(ParamValue::Text(text.into()))
    }

    /// Names a part, which is one function's call and stands outside of lambdas at least once, and there first.
    pub(super) fn part(&mut self, expression: String) -> String {
        let at = *self.known_parts.entry(expression).or_insert_with_key(|expression| {
            self.parts.push(expression.clone());
            self.parts.len() - 1
        });
        format!("{MARK}{at}{MARK}")
    }

    /// The finished text, and the values that it names.
    pub(super) fn finish(self, text: &str) -> (String, Vec<Param>) {
        let mut uses = vec![0; self.parts.len()];
        self.count(text, &mut uses);
        let mut finished = String::with_capacity(text.len() * 2);
        self.write(text, &uses, &mut vec![false; self.parts.len()], &mut finished);
        let params = self
            .values
            .into_iter()
            .filter(|param| finished.contains(&format!("{{{}:", param.name)))
            .collect();
        (finished, params)
    }

    /// How often each part stands in the finished text.
    fn count(&self, text: &str, uses: &mut [u32]) {
        for (_, part) in pieces(text) {
            if let Some(part) = part {
                uses[part] += 1;
                if uses[part] == 1 {
                    self.count(&self.parts[part], uses);
                }
            }
        }
    }

    fn write(&self, text: &str, uses: &[u32], written: &mut [bool], out: &mut String) {
        for (before, part) in pieces(text) {
            out.push_str(before);
            match part {
                None => {}
                Some(part) if uses[part] == 1 => self.write(&self.parts[part], uses, written, out),
                Some(part) if written[part] => out.push_str(&self.name(part)),
                Some(part) => {
                    written[part] = true;
                    out.push('(');
                    self.write(&self.parts[part], uses, written, out);
                    out.push_str(" AS ");
                    out.push_str(&self.name(part));
                    out.push(')');
                }
            }
        }
    }

    fn name(&self, part: usize) -> String {
        format!("{}v{part}", self.prefix)
    }
}

/// Text between marks, each with the part whose mark follows.
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<usize>)> {
    let mut pieces = text.split(MARK);
    std::iter::from_fn(move || {
        let before = pieces.next()?;
        Some((before, pieces.next().and_then(|number| number.parse().ok())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_once() {
        let mut names = Names::new("p");
        let path = names.bind(ParamValue::Identifier("plan".into()));
        let _dropped = names.bind_text("unused");
        let text = names.part(format!("f(i.{path})"));
        let once = names.part(format!("g({text})"));
        let finished = names.finish(&format!("or({once}, {text} = 1, {text} = 2)"));
        assert_eq!(finished.0, "or(g((f(i.{p0:Identifier}) AS pv0)), pv0 = 1, pv0 = 2)");
        assert_eq!(finished.1.len(), 1);
    }
}
