//! Predicates × identities in one query, over HTTP with bound parameters.

use std::fmt::Write as _;

use rollcall_rules::sql::Predicate;

use super::server::Server;

/// What a predicate may be: not Nullable, not Bool.
const TYPE: &str = "UInt8";
/// Marks the parts of a request's body; no rule of a case holds it.
const BOUNDARY: &str = "rollcall-differential-8d1f0b6c2a";
/// Several predicates in one query are larger than one may be. What a single one must obey stays at its default.
const GROUP_SETTINGS: &str =
    "&max_query_size=1000000000&max_ast_elements=100000000&max_expanded_ast_elements=100000000";

/// What SQL says of one identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// In or out.
    Is(bool),
    /// The engine's exception, or that the value has another type.
    Failed(String),
}

impl Server {
    /// What each predicate says of each identity held now, both by index. Asks all at once and, if that fails, in
    /// halves until whoever is guilty stands alone: the others lose nothing by it.
    ///
    /// # Panics
    /// If the engine is gone.
    pub async fn verdicts(&self, predicates: &[&Predicate], ids: &[String]) -> Vec<Vec<Verdict>> {
        if predicates.is_empty() {
            return Vec::new();
        }
        match self.ask(predicates, ids).await {
            Ok(verdicts) => verdicts,
            Err(reason) if predicates.len() == 1 => vec![self.alone(predicates[0], ids, reason).await],
            Err(_) => {
                let (first, second) = predicates.split_at(predicates.len() / 2);
                let mut verdicts = Box::pin(self.verdicts(first, ids)).await;
                verdicts.extend(Box::pin(self.verdicts(second, ids)).await);
                verdicts
            }
        }
    }

    /// A predicate that fails: on which identities?
    async fn alone(&self, predicate: &Predicate, ids: &[String], reason: String) -> Vec<Verdict> {
        // Without any identity it is the predicate itself.
        if ids.len() < 2 || self.ask(&[predicate], &[]).await.is_err() {
            return vec![Verdict::Failed(reason); ids.len()];
        }
        let (first, second) = ids.split_at(ids.len() / 2);
        let mut verdicts = Vec::with_capacity(ids.len());
        for half in [first, second] {
            match self.ask(&[predicate], half).await {
                Ok(mut answers) => verdicts.append(&mut answers.remove(0)),
                Err(reason) => verdicts.extend(Box::pin(self.alone(predicate, half, reason)).await),
            }
        }
        verdicts
    }

    /// One query.
    async fn ask(&self, predicates: &[&Predicate], ids: &[String]) -> Result<Vec<Vec<Verdict>>, String> {
        let mut sql = String::from("SELECT i.id AS id");
        for (n, predicate) in predicates.iter().enumerate() {
            let _ = write!(sql, ",\n({}) AS verdict{n}", predicate.condition);
        }
        // Cast: no literal of hundreds of texts goes through the parser of expressions.
        let _ = write!(
            sql,
            "\nFROM rollcall.IDENTITIES AS i FINAL WHERE i.id IN splitByChar(',', '{}')\nFORMAT TSVWithNamesAndTypes",
            ids.join(",")
        );
        let params = predicates.iter().flat_map(|predicate| &predicate.params);
        let mut form = Form::default();
        form.field("query", &sql);
        for param in params {
            form.field(&format!("param_{}", param.name), &param.value.http_text());
        }
        let settings = if predicates.len() > 1 { GROUP_SETTINGS } else { "" };
        let text = self.post(settings, form).await?;
        read(&text, predicates.len(), ids)
    }

    /// A statement without answer.
    pub(super) async fn run(&self, sql: &str) -> Result<String, String> {
        let mut form = Form::default();
        form.field("query", sql);
        self.post("", form).await
    }

    async fn post(&self, settings: &str, form: Form) -> Result<String, String> {
        // One thread is faster for so few rows, and leaves the other core to the evaluator.
        let url = format!("{}/?wait_end_of_query=1&max_threads=1{settings}", self.url);
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.http.post(url).header("content-type", kind).body(form.end());
        let answer = request.send().await.expect("ClickHouse runs");
        let is_ok = answer.status().is_success();
        let text = answer.text().await.expect("ClickHouse runs");
        if is_ok { Ok(text) } else { Err(text) }
    }
}

/// A multipart form.
#[derive(Default)]
struct Form(String);

impl Form {
    fn field(&mut self, name: &str, value: &str) {
        let _ = write!(
            self.0,
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }

    fn end(mut self) -> String {
        let _ = write!(self.0, "--{BOUNDARY}--\r\n");
        self.0
    }
}

/// The rows: an id, then a digit for each predicate.
fn read(text: &str, predicates: usize, ids: &[String]) -> Result<Vec<Vec<Verdict>>, String> {
    let mut lines = text.lines();
    let types: Vec<&str> = lines.nth(1).unwrap_or_default().split('\t').skip(1).collect();
    assert_eq!(types.len(), predicates, "an answer without its types: {text:?}");
    let mut verdicts: Vec<Vec<Option<Verdict>>> = vec![vec![None; ids.len()]; predicates];
    let places: std::collections::HashMap<&str, usize> =
        ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    for line in lines {
        let mut values = line.split('\t');
        let place = values.next().and_then(|id| places.get(id)).copied();
        let place = place.unwrap_or_else(|| panic!("a row that nobody asked for: {line:?}"));
        for (n, value) in values.enumerate() {
            verdicts[n][place] = Some(match (types[n], value) {
                (TYPE, "0") => Verdict::Is(false),
                (TYPE, "1") => Verdict::Is(true),
                (other, value) => Verdict::Failed(format!("the value is {value} of type {other}")),
            });
        }
    }
    let all = verdicts.into_iter().map(|row| row.into_iter().collect::<Option<Vec<_>>>());
    all.collect::<Option<Vec<_>>>().ok_or_else(|| panic!("fewer rows than identities: {text:?}"))
}
