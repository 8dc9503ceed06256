//! An SDK error in; what is wrong, whether asking again can help, and what repairs it out.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use rollcall_model::{Fault, FaultKind};

use crate::clock::{date_us, local_us};

const CREDENTIALS_REPAIR: &str = "give valid credentials: the source's credentials in topology.yaml, or AWS_ACCESS_KEY_ID and \
                                  AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine, container or service account";

/// The service's code of an error, where it answered with one.
#[must_use]
pub fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Whether the service asks for fewer calls.
#[must_use]
pub fn is_throttling(code: Option<&str>) -> bool {
    matches!(
        code,
        Some(
            "ProvisionedThroughputExceededException"
                | "ThrottlingException"
                | "Throttling"
                | "LimitExceededException"
                | "RequestLimitExceeded"
                | "TooManyRequestsException"
                | "SlowDown"
        )
    )
}

/// Whether a permission is missing.
#[must_use]
pub fn is_access_denied(code: Option<&str>) -> bool {
    matches!(code, Some("AccessDeniedException" | "AccessDenied"))
}

/// Whether there is no such thing.
#[must_use]
pub fn is_not_found(code: Option<&str>) -> bool {
    matches!(code, Some("ResourceNotFoundException" | "NoSuchBucket" | "NoSuchKey" | "NotFound"))
}

/// What an error means. `doing` says what was tried (`reading the stream of table x`), `action` is the permission that it
/// takes (`dynamodb:GetRecords`), `resource` is what it was done to (an ARN, or a name).
#[must_use]
pub fn fault<E>(doing: &str, action: &str, resource: &str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let said = Said {
        code: code(&error).map(str::to_owned),
        message: error.as_service_error().and_then(E::message).unwrap_or_default().to_owned(),
        status: error.raw_response().map(|response| response.status().as_u16()),
        skew_s: error.raw_response().and_then(skew_s),
    };
    if error.as_service_error().is_some() {
        let refusal = refusal(doing, action, resource, &said);
        // The service's text is in the fault already: as a cause it would repeat. An answer that can't be read has none.
        return if said.code.is_some() { refusal } else { refusal.from_source(error) };
    }
    unanswered(doing, &error).from_source(error)
}

/// What the service said.
#[derive(Default, Debug)]
struct Said {
    code: Option<String>,
    message: String,
    status: Option<u16>,
    /// How far this machine's clock is ahead of the service's, in seconds.
    skew_s: Option<i64>,
}

fn skew_s(response: &HttpResponse) -> Option<i64> {
    Some((local_us() - date_us(response)?) / 1_000_000)
}

fn refusal(doing: &str, action: &str, resource: &str, said: &Said) -> Fault {
    let code = said.code.as_deref().unwrap_or("an error without a code");
    let message = &said.message;
    let what = format!("{doing}: {code}{}{message}", if message.is_empty() { "" } else { ": " });
    let skewed = matches!(code, "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture")
        || message.contains("Signature expired")
        || message.contains("Signature not yet current");
    if skewed {
        let off = said.skew_s.map_or_else(|| "off".to_owned(), off_by);
        return Fault::config(format!(
            "{doing}: this machine's clock is {off}, so AWS takes no signature of it"
        ))
        .repair("set the clock: chronyc makestep, or systemctl restart systemd-timesyncd");
    }
    if is_access_denied(Some(code)) {
        return denied(&what, action, resource, message);
    }
    if is_throttling(Some(code)) {
        return Fault::retry(what);
    }
    if is_not_found(Some(code)) {
        return Fault::config(what)
            .repair(format!("correct the name, the region or the account: {resource}"));
    }
    match code {
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "AuthFailure" => {
            Fault::config(format!("{what} (AWS does not know these credentials)")).repair(CREDENTIALS_REPAIR)
        }
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpiredException" => {
            Fault::config(format!("{what} (these credentials have expired)")).repair(CREDENTIALS_REPAIR)
        }
        "InternalServerError"
        | "InternalServerException"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "TransactionInProgressException"
        | "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "OperationAborted" => Fault::retry(what),
        _ if said.status.is_some_and(|status| status >= 500) => Fault::retry(what),
        _ => Fault::config(what),
    }
}

fn denied(what: &str, action: &str, resource: &str, message: &str) -> Fault {
    let service = if message.contains("kms:") { "; the table's KMS key has a policy of its own" } else { "" };
    let policy = format!(
        "add to the role's IAM policy: {{\"Effect\": \"Allow\", \"Action\": \"{action}\", \"Resource\": \"{resource}\"}}"
    );
    Fault::config(format!("{what} (the permission {action} on {resource} is missing{service})"))
        .repair(policy)
}

fn off_by(skew_s: i64) -> String {
    match skew_s {
        0 => "off".to_owned(),
        ahead if ahead > 0 => format!("{ahead} s ahead"),
        behind => format!("{} s behind", -behind),
    }
}

/// No answer of the service: the network, or credentials that could not be had.
fn unanswered<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> Fault
where
    E: Error + Send + Sync + 'static,
{
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = cause {
        if let Some(credentials) = link.downcast_ref::<CredentialsError>() {
            // An STS or instance service that is away comes back.
            let set_wrongly = matches!(
                credentials,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            );
            let kind = if set_wrongly { FaultKind::Config } else { FaultKind::Retry };
            return Fault::new(kind, format!("{doing}: no AWS credentials were found"))
                .repair(CREDENTIALS_REPAIR);
        }
        cause = link.source();
    }
    if matches!(error, SdkError::ConstructionFailure(_)) {
        return Fault::config(format!("{doing}: the request can't be made"));
    }
    let how = match error.raw_response() {
        Some(_) => "AWS's answer can't be read",
        None if matches!(error, SdkError::TimeoutError(_)) => "AWS did not answer in time",
        None => "AWS can't be reached",
    };
    Fault::retry(format!("{doing}: {how}"))
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
