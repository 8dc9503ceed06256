//! A located tree → typed values, noting every fault on the way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use rollcall_model::GateMode;
use url::Url;

use super::schema::{Key, Kind, Need, Shape};
use super::secret::{ClickHouseUrl, Secret};
use super::tree::{At, Node, NodeValue, REFERENCE_CLOSE, REFERENCE_OPEN};
use super::{ConfigFault, Platform, Preset};

/// How unlike a word may be to be suggested, from 0 to 1.
const LIKENESS_MIN: f64 = 0.75;

/// Notes faults; asks the environment.
pub(super) struct Reader<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: Vec<ConfigFault>,
}

/// A mapping of the file with the keys it may have.
pub(super) struct Section<'n> {
    /// Its key path: `sources.core`.
    pub(super) path: String,
    /// Where it is introduced; what is missing is missing there.
    pub(super) at: At,
    keys: &'static [Key],
    entries: BTreeMap<&'n str, (At, &'n Node)>,
}

impl<'n> Section<'n> {
    /// The node of a key that holds a section or a map itself.
    pub(super) fn node(&self, name: &str) -> Option<(At, &'n Node)> {
        self.entries.get(name).copied()
    }
}

/// A scalar with its variables put in.
struct Expanded {
    text: String,
    /// The text as written, references cut out.
    written: String,
    from_environment: bool,
}

impl Reader<'_> {
    /// Notes a fault.
    pub(super) fn fault(&mut self, at: At, key: &str, what: impl Into<String>) {
        self.faults.push(ConfigFault::at(at, key, what));
    }

    /// Notes a fault with what repairs it.
    pub(super) fn fault_with(
        &mut self,
        at: At,
        key: &str,
        what: impl Into<String>,
        repair: impl Into<String>,
    ) {
        self.faults.push(ConfigFault { repair: Some(repair.into()), ..ConfigFault::at(at, key, what) });
    }

    /// The entries of a mapping, each key once.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Option<Vec<(At, &'n str, &'n Node)>> {
        let NodeValue::Map(entries) = &node.value else {
            if node.is_null() {
                return Some(Vec::new());
            }
            self.fault(node.at, path, format!("expected keys and values, found {}", describe(node)));
            return None;
        };
        let mut seen: BTreeMap<&str, At> = BTreeMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if let Some(first) = seen.insert(&key.text, key.at) {
                let what = format!("stands here a second time; first on line {}", first.line);
                self.fault(key.at, &join(path, &key.text), what);
            } else {
                unique.push((key.at, key.text.as_str(), value));
            }
        }
        Some(unique)
    }

    /// Opens a section: unknown keys are faults. `also` is a key beside those of the shape.
    pub(super) fn section<'n>(
        &mut self,
        at: At,
        node: &'n Node,
        path: &str,
        shape: &Shape,
        also: &[&str],
    ) -> Option<Section<'n>> {
        let mut entries = BTreeMap::new();
        for (key_at, key, value) in self.entries(node, path)? {
            if shape.keys.iter().any(|known| known.name == key) || also.contains(&key) {
                entries.insert(key, (key_at, value));
            } else {
                let known: Vec<&str> =
                    shape.keys.iter().map(|key| key.name).chain(also.iter().copied()).collect();
                self.unknown(key_at, &join(path, key), key, "key", &known);
            }
        }
        Some(Section { path: path.to_owned(), at, keys: shape.keys, entries })
    }

    /// An unknown word: with a did-you-mean, or the list of those there are.
    pub(super) fn unknown(&mut self, at: At, path: &str, word: &str, noun: &str, known: &[&str]) {
        let nearest = known
            .iter()
            .map(|name| (strsim::jaro_winkler(name, word), name))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let repair = nearest.map_or_else(
            || format!("use one of: {}", known.join(", ")),
            |(_, name)| format!("did you mean '{name}'?"),
        );
        self.fault_with(at, path, format!("unknown {noun} '{word}'"), repair);
    }

    /// The value of a key of a section; `None` after a fault.
    pub(super) fn value<T: FromText>(&mut self, section: &Section<'_>, name: &str) -> Option<T> {
        let key = section.keys.iter().find(|key| key.name == name)?;
        let path = join(&section.path, name);
        match section.entries.get(name) {
            Some((_, node)) if !node.is_null() => self.scalar(node, &path, key.kind),
            Some(_) | None => match key.need {
                Need::Required => {
                    self.fault_with(
                        section.at,
                        &path,
                        format!("'{name}' is missing"),
                        super::schema::prose(key.doc),
                    );
                    None
                }
                Need::Optional => T::absent(),
                Need::Number(number) => T::from_text(&number.to_string()).ok(),
                Need::Word(word) => T::from_text(word).ok(),
            },
        }
    }

    /// A scalar of a kind, wherever it stands.
    pub(super) fn scalar<T: FromText>(&mut self, node: &Node, path: &str, kind: Kind) -> Option<T> {
        let NodeValue::Scalar { text, plain } = &node.value else {
            self.fault(node.at, path, format!("expected {}, found {}", wanted(kind), describe(node)));
            return None;
        };
        let expanded = self.expand(node.at, path, text)?;
        if expanded.text.trim().is_empty() {
            self.fault(node.at, path, format!("expected {}, found nothing", wanted(kind)));
            return None;
        }
        if let Err((what, repair)) = check(kind, &expanded, *plain) {
            self.faults.push(ConfigFault { repair, ..ConfigFault::at(node.at, path, what) });
            return None;
        }
        match T::from_text(&expanded.text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(node.at, path, what);
                None
            }
        }
    }

    /// Puts variables in; one fault for each that is not set.
    fn expand(&mut self, at: At, path: &str, text: &str) -> Option<Expanded> {
        let mut expanded = Expanded { text: String::new(), written: String::new(), from_environment: false };
        let mut whole = true;
        for (index, part) in text.split(REFERENCE_OPEN).enumerate() {
            let literal = match part.split_once(REFERENCE_CLOSE) {
                Some((name, rest)) if index > 0 => {
                    expanded.from_environment = true;
                    match (self.env)(name) {
                        Some(value) => expanded.text.push_str(&value),
                        None => {
                            let what = format!("the variable {name} is not set");
                            self.fault_with(at, path, what, format!("export {name}=…"));
                            whole = false;
                        }
                    }
                    rest
                }
                Some(_) | None => part,
            };
            expanded.text.push_str(literal);
            expanded.written.push_str(literal);
        }
        if expanded.written.contains("${") {
            let what = "'${' starts a variable, whose name has letters, digits and underscores: ${NAME}";
            self.fault(at, path, what);
            whole = false;
        }
        whole.then_some(expanded)
    }
}

/// Whether a text is of a kind. What came from the environment is never put into the message.
fn check(kind: Kind, value: &Expanded, plain: bool) -> Result<(), (String, Option<String>)> {
    let shown =
        if value.from_environment { "the variable's value".to_owned() } else { format!("'{}'", value.text) };
    let wrong = |repair: Option<String>| Err((format!("expected {}, found {shown}", wanted(kind)), repair));
    match kind {
        Kind::Int { .. } if !plain => wrong(Some("write the number without quotes".to_owned())),
        Kind::Int { min, max } => match value.text.parse::<i128>() {
            Err(_) => wrong(None),
            Ok(number) if (i128::from(min)..=i128::from(max)).contains(&number) => Ok(()),
            Ok(_) => Err((format!("{shown} is out of range: {min} to {max}"), None)),
        },
        Kind::Text => Ok(()),
        Kind::PostgresName => {
            let first = value.text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
            let rest = value.text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if first && rest && value.text.len() <= 63 { Ok(()) } else { wrong(None) }
        }
        Kind::Url { schemes, embedded } => check_url(schemes, embedded, value),
        Kind::Secret if !value.written.is_empty() => Err((
            "a secret does not stand in the file".to_owned(),
            Some("put it in an environment variable and write ${NAME}".to_owned()),
        )),
        Kind::Secret => Ok(()),
        Kind::Address => value.text.parse::<SocketAddr>().map(drop).or_else(|_| wrong(None)),
        Kind::Choice(words) if words.contains(&boolean_word(&value.text)) => Ok(()),
        Kind::Choice(words) => {
            let nearest = words.iter().find(|word| strsim::jaro_winkler(word, &value.text) >= LIKENESS_MIN);
            wrong(nearest.filter(|_| !value.from_environment).map(|word| format!("did you mean '{word}'?")))
        }
    }
}

/// A URL never appears in a message: it may hold a password.
fn check_url(schemes: &[&str], embedded: bool, value: &Expanded) -> Result<(), (String, Option<String>)> {
    if embedded && value.text == "embedded" {
        return Ok(());
    }
    if has_written_password(&value.written) {
        return Err((
            "a password stands in the URL in clear".to_owned(),
            Some(
                "put it in an environment variable: …://user:${PASSWORD}@host… or the whole URL: ${URL}"
                    .to_owned(),
            ),
        ));
    }
    let forms = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    let forms = if embedded { format!("'embedded', {forms}") } else { forms };
    let percent =
        "a URL is scheme://user:password@host:port/…; characters such as @ / : % of a password are \
                   percent-encoded"
            .to_owned();
    let url =
        Url::parse(&value.text).map_err(|error| (format!("not a URL ({forms}): {error}"), Some(percent)))?;
    if !schemes.contains(&url.scheme()) {
        return Err((format!("expected a URL that starts with {forms}"), None));
    }
    if embedded && (!url.username().is_empty() || url.password().is_some()) {
        return Err((
            "user and password have keys of their own".to_owned(),
            Some("user: …, password: ${NAME}".to_owned()),
        ));
    }
    let host_in_query = url.query_pairs().any(|(name, host)| name == "host" && !host.is_empty());
    if url.host_str().is_none_or(|host| host.is_empty() || host == "no-host.invalid") && !host_in_query {
        return Err(("the URL names no host".to_owned(), None));
    }
    Ok(())
}

/// Whether a password was written out, in the part of the URL that is not from variables.
fn has_written_password(written: &str) -> bool {
    let Some((_, rest)) = written.split_once("://") else { return false };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    // A password with a raw `/` hides its `@` behind what looks like the path: look at the whole.
    let userinfo = authority.rsplit_once('@').or_else(|| rest.rsplit_once('@')).map(|(userinfo, _)| userinfo);
    let in_userinfo = userinfo
        .and_then(|userinfo| userinfo.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty());
    let query = tail.split_once('?').map_or("", |(_, query)| query);
    let in_query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .any(|(name, value)| name.to_ascii_lowercase().contains("password") && !value.is_empty());
    in_userinfo || in_query
}

fn wanted(kind: Kind) -> String {
    match kind {
        Kind::Int { .. } => "a whole number".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::PostgresName => {
            "a name of at most 63 lower case letters, digits and underscores, no digit first".to_owned()
        }
        Kind::Url { .. } => "a URL".to_owned(),
        Kind::Secret => "a variable ${NAME}".to_owned(),
        Kind::Address => "an address such as 127.0.0.1:8080".to_owned(),
        Kind::Choice(words) => words.join(" or "),
    }
}

fn describe(node: &Node) -> &'static str {
    match &node.value {
        NodeValue::Scalar { .. } if node.is_null() => "nothing",
        NodeValue::Scalar { .. } => "a single value",
        NodeValue::Map(_) => "keys and values",
        NodeValue::List => "a list",
        NodeValue::Alias => "a YAML alias",
    }
}

/// A key path.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `true` and `false` as the words that older YAML means by them.
fn boolean_word(text: &str) -> &str {
    match text {
        "true" => "on",
        "false" => "off",
        other => other,
    }
}

/// A typed value from the text of a scalar that was checked against its kind.
pub(super) trait FromText: Sized {
    /// The value.
    fn from_text(text: &str) -> Result<Self, String>;
    /// The value of an optional key that isn't there.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! parsed {
    ($($ty:ty),+) => {
        $(impl FromText for $ty {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("expected a {}", stringify!($ty)))
            }
        })+
    };
}
parsed!(u16, u32, u64, String, SocketAddr);

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl FromText for Secret {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
}

impl FromText for ClickHouseUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(if text == "embedded" { Self::Embedded } else { Self::Http(Secret::new(text)) })
    }
}

impl<T: FromText> FromText for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl FromText for GateMode {
    fn from_text(text: &str) -> Result<Self, String> {
        match boolean_word(text) {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            "exclude" => Ok(Self::Exclude),
            other => Err(format!("unknown gate '{other}'")),
        }
    }
}

impl FromText for Platform {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "flagsmith" => Ok(Self::Flagsmith),
            other => Err(format!("unknown platform '{other}'")),
        }
    }
}

impl FromText for Preset {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "native" => Ok(Self::Native),
            "flagsmith" => Ok(Self::Flagsmith),
            other => Err(format!("unknown preset '{other}'")),
        }
    }
}
