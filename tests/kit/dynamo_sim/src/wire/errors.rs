//! Refusals as they travel: `{"__type": "<namespace>#<name>", "message": "…"}` and an HTTP status.

use crate::core::{ApiError, ErrorCode};

/// The status of a refusal.
pub(crate) fn status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InternalServerError => 500,
        ErrorCode::AccessDenied
        | ErrorCode::ExpiredIterator
        | ErrorCode::LimitExceeded
        | ErrorCode::MissingAuthenticationToken
        | ErrorCode::ProvisionedThroughputExceeded
        | ErrorCode::ResourceNotFound
        | ErrorCode::Serialization
        | ErrorCode::Throttling
        | ErrorCode::TrimmedDataAccess
        | ErrorCode::UnknownOperation
        | ErrorCode::UnrecognizedClient
        | ErrorCode::Validation => 400,
    }
}

/// The body of a refusal.
pub(crate) fn body(error: &ApiError) -> String {
    let (namespace, message) = match error.code {
        ErrorCode::ExpiredIterator
        | ErrorCode::InternalServerError
        | ErrorCode::LimitExceeded
        | ErrorCode::ProvisionedThroughputExceeded
        | ErrorCode::ResourceNotFound
        | ErrorCode::TrimmedDataAccess => ("com.amazonaws.dynamodb.v20120810", "message"),
        ErrorCode::AccessDenied | ErrorCode::Serialization => ("com.amazon.coral.service", "Message"),
        ErrorCode::MissingAuthenticationToken
        | ErrorCode::UnknownOperation
        | ErrorCode::UnrecognizedClient => ("com.amazon.coral.service", "message"),
        ErrorCode::Throttling => ("com.amazon.coral.availability", "message"),
        ErrorCode::Validation => ("com.amazon.coral.validate", "message"),
    };
    let kind = format!("{namespace}#{}", error.code.name());
    serde_json::json!({ "__type": kind, message: error.message }).to_string()
}
