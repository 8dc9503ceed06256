//! What a ClickHouse server says when it refuses: a code, a name, a text and the HTTP status that goes with it.

use axum::http::StatusCode;

/// The release of the engine that libchdb 26.7.3 holds, as a server names itself at the end of a message.
const VERSION_NOTE: &str = "(version 26.7.2.1 (official build))";

/// A refusal in the engine's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) code: u32,
    text: String,
}

impl Exception {
    /// One of our own, for what a server checks before its engine does.
    pub(crate) fn new(code: u32, name: &str, what: impl AsRef<str>) -> Self {
        Self { code, text: format!("Code: {code}. DB::Exception: {}. ({name})", what.as_ref()) }
    }

    /// The engine's: its text begins with the code.
    pub(crate) fn from_engine(text: &str) -> Self {
        let code = text
            .split_once("Code: ")
            .and_then(|(_, rest)| rest.split('.').next())
            .and_then(|code| code.trim().parse().ok());
        match code {
            Some(code) => Self { code, text: text.trim_end().to_owned() },
            None => Self::new(1002, "UNKNOWN_EXCEPTION", text.trim_end()),
        }
    }

    /// The engine failed without a message.
    pub(crate) fn engine_said_nothing() -> Self {
        Self::new(1002, "UNKNOWN_EXCEPTION", "the engine gave no result and no message")
    }

    /// The message as a server sends it, with its version at the end.
    pub(crate) fn message(&self) -> String {
        let text = self.text.strip_suffix("(version 26.7.2.1)").unwrap_or(&self.text).trim_end();
        format!("{text} {VERSION_NOTE}\n")
    }

    /// The name in brackets at the end of the message, where there is one.
    fn name(&self) -> &str {
        self.text
            .rmatch_indices('(')
            .filter_map(|(at, _)| self.text[at + 1..].split_once(')'))
            .map(|(name, _)| name)
            .find(|name| {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit())
            })
            .unwrap_or_default()
    }

    /// The HTTP status with which a server answers.
    pub(crate) fn status(&self) -> StatusCode {
        match self.name() {
            "REQUIRED_PASSWORD" => StatusCode::UNAUTHORIZED,
            "UNKNOWN_USER" | "WRONG_PASSWORD" | "AUTHENTICATION_FAILED" | "SET_NON_GRANTED_ROLE" => {
                StatusCode::FORBIDDEN
            }
            "UNKNOWN_TABLE"
            | "UNKNOWN_FUNCTION"
            | "UNKNOWN_IDENTIFIER"
            | "UNKNOWN_TYPE"
            | "UNKNOWN_STORAGE"
            | "UNKNOWN_DATABASE"
            | "UNKNOWN_SETTING"
            | "UNKNOWN_AGGREGATE_FUNCTION"
            | "UNKNOWN_FORMAT"
            | "UNKNOWN_DATABASE_ENGINE"
            | "UNKNOWN_TYPE_OF_QUERY"
            | "UNKNOWN_ROLE" => StatusCode::NOT_FOUND,
            "TOO_MANY_BYTES" | "QUERY_IS_TOO_LARGE" => StatusCode::PAYLOAD_TOO_LARGE,
            "NOT_IMPLEMENTED" => StatusCode::NOT_IMPLEMENTED,
            "TIMEOUT_EXCEEDED" => StatusCode::REQUEST_TIMEOUT,
            "SOCKET_TIMEOUT" | "CANNOT_SCHEDULE_TASK" => StatusCode::SERVICE_UNAVAILABLE,
            "SYNTAX_ERROR"
            | "BAD_ARGUMENTS"
            | "TYPE_MISMATCH"
            | "INCORRECT_DATA"
            | "CANNOT_COMPILE_REGEXP"
            | "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE"
            | "TOO_DEEP_AST"
            | "TOO_BIG_AST"
            | "UNEXPECTED_AST_STRUCTURE"
            | "UNKNOWN_ELEMENT_IN_AST"
            | "UNKNOWN_TYPE_OF_AST_NODE" => StatusCode::BAD_REQUEST,
            name if name.starts_with("CANNOT_PARSE_") => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
