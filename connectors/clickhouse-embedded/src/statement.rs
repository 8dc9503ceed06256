//! As much of a statement's text as must be known before the engine sees it: is its data to come after it, and in which
//! format does it read or answer.
//!
//! Quotes and comments are skipped, so that a word inside them is never taken for a keyword.

/// A word of the statement outside quotes and comments, with where it stands.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    from: usize,
    to: usize,
}

impl Word<'_> {
    fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Splits a statement into words and single marks. A quoted piece counts as one mark.
fn words(sql: &str) -> Vec<Word<'_>> {
    let bytes = sql.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        at = match bytes[at] {
            b'\'' | b'"' | b'`' => end_of_quoted(bytes, at),
            b'-' if bytes[at..].starts_with(b"--") => end_after(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => end_after(bytes, at + 2, b"*/"),
            b'#' if matches!(bytes.get(at + 1), Some(b' ' | b'!')) => end_after(bytes, at, b"\n"),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
            }
            // A character of more than one byte is one mark.
            _ => at + bytes[at..].iter().skip(1).take_while(|b| (**b & 0xC0) == 0x80).count() + 1,
        };
        let comment = matches!(bytes[from], b'-' | b'/' | b'#') && at > from + 1;
        if !comment && !bytes[from].is_ascii_whitespace() {
            words.push(Word { text: &sql[from..at], from, to: at });
        }
    }
    words
}

/// The byte after the closing quote: a backslash escapes, and a doubled quote reads as two quoted pieces.
fn end_of_quoted(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == bytes[from] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_after(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    bytes[from..].windows(end.len()).position(|w| w == end).map_or(bytes.len(), |at| from + at + end.len())
}

/// An INSERT whose data comes after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InsertHead<'a> {
    /// The statement up to its FORMAT.
    pub(crate) head: &'a str,
    /// The format of the data.
    pub(crate) format: &'a str,
}

/// The head of an `INSERT … FORMAT name` or `INSERT … VALUES` with nothing behind it; None for any other statement.
pub(crate) fn insert_head(sql: &str) -> Option<InsertHead<'_>> {
    let mut words = words(sql);
    while words.last().is_some_and(|word| word.text == ";") {
        words.pop();
    }
    if !words.first()?.is("INSERT") {
        return None;
    }
    let last = words.last()?;
    if last.is("VALUES") {
        return Some(InsertHead { head: sql[..last.from].trim_end(), format: "Values" });
    }
    if let [.., keyword, name] = words.as_slice()
        && keyword.is("FORMAT")
    {
        return Some(InsertHead { head: sql[..keyword.from].trim_end(), format: name.text });
    }
    // Without a format a server reads values, unless the rows come from a query.
    let from_query = words.iter().any(|word| word.is("SELECT") || word.is("VALUES") || word.is("FORMAT"));
    (!from_query).then(|| InsertHead { head: sql[..last.to].trim_end(), format: "Values" })
}

/// The first word of a statement, for what is decided by it.
pub(crate) fn first_word(sql: &str) -> &str {
    words(sql).iter().find(|word| word.text != "(").map_or("", |word| word.text)
}

/// The format that a query itself asks for: `… FORMAT name [SETTINGS …]`.
pub(crate) fn asked_format(sql: &str) -> Option<&str> {
    let words = words(sql);
    let at = words.iter().rposition(|word| word.is("FORMAT"))?;
    let name = words.get(at + 1)?;
    let ends = words.get(at + 2).is_none_or(|next| next.text == ";" || next.is("SETTINGS"));
    let is_name = name.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (ends && is_name).then_some(name.text)
}

/// A string as a literal of ClickHouse.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name as a quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_is_told_from_a_query_by_its_words_outside_quotes_and_comments() {
        let head = |sql| insert_head(sql).map(|insert| (insert.head, insert.format));
        assert_eq!(head("INSERT INTO t(a, b) FORMAT RowBinary"), Some(("INSERT INTO t(a, b)", "RowBinary")));
        assert_eq!(
            head("/* FORMAT x */ insert into t format ArrowStream ;\n"),
            Some(("/* FORMAT x */ insert into t", "ArrowStream"))
        );
        assert_eq!(
            head("INSERT INTO t SETTINGS async_insert=0 FORMAT TSV"),
            Some(("INSERT INTO t SETTINGS async_insert=0", "TSV"))
        );
        assert_eq!(head("INSERT INTO `select` VALUES"), Some(("INSERT INTO `select`", "Values")));
        assert_eq!(head("INSERT INTO t (a)"), Some(("INSERT INTO t (a)", "Values")));
        assert_eq!(head("INSERT INTO t VALUES (1)"), None);
        assert_eq!(head("INSERT INTO t SELECT 1"), None);
        assert_eq!(head("INSERT INTO t FORMAT TSV 1\t2"), None);
        assert_eq!(head("SELECT 'INSERT INTO t FORMAT TSV'"), None);
        assert_eq!(head(""), None);
    }

    #[test]
    fn a_query_names_its_own_format_only_at_its_end() {
        assert_eq!(asked_format("SELECT 1 FORMAT JSON"), Some("JSON"));
        assert_eq!(asked_format("SELECT 1 format JSON settings max_threads = 1"), Some("JSON"));
        assert_eq!(asked_format("SELECT 1 FORMAT CSV;"), Some("CSV"));
        assert_eq!(asked_format("SELECT 1 -- FORMAT JSON"), None);
        assert_eq!(asked_format("SELECT 'FORMAT JSON'"), None);
        assert_eq!(asked_format("SELECT 'it''s \\' FORMAT JSON'"), None);
        assert_eq!(asked_format("SELECT format('{}', 1)"), None);
        assert_eq!(asked_format("SELECT 'é→' FORMAT TSV"), Some("TSV"));
    }

    #[test]
    fn text_is_quoted_so_that_it_stays_one_literal() {
        assert_eq!(quoted(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(identifier("a`b"), r"`a\`b`");
        assert_eq!(first_word("-- x\n (SELECT 1)"), "SELECT");
    }
}
