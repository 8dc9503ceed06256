use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::operation::BuildError;

use super::*;

#[derive(Debug)]
struct Service(ErrorMetadata);

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("service error")
    }
}

impl Error for Service {}

impl ProvideErrorMetadata for Service {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

fn answered(code: &str, message: &str, status: u16, date: Option<&str>) -> Fault {
    let mut response = HttpResponse::new(status.try_into().expect("a status"), "".into());
    if let Some(date) = date {
        response.headers_mut().insert("date", date.to_owned());
    }
    let meta = ErrorMetadata::builder().code(code).message(message).build();
    let error = SdkError::service_error(Service(meta), response);
    fault("reading the stream", "dynamodb:GetRecords", "arn:aws:dynamodb:x", error)
}

#[test]
fn a_missing_permission_is_named_with_the_statement_that_grants_it() {
    let fault = answered("AccessDeniedException", "User: x is not authorized", 400, None);
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(
        fault.what.contains("the permission dynamodb:GetRecords on arn:aws:dynamodb:x is missing"),
        "{fault}"
    );
    let repair = fault.repair.expect("a repair");
    assert!(repair.contains(
        r#"{"Effect": "Allow", "Action": "dynamodb:GetRecords", "Resource": "arn:aws:dynamodb:x"}"#
    ));
}

#[test]
fn kinds_say_whether_asking_again_helps() {
    for code in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
    ] {
        assert_eq!(answered(code, "", 400, None).kind, FaultKind::Retry, "{code}");
    }
    assert_eq!(answered("SomethingNew", "", 503, None).kind, FaultKind::Retry);
    assert_eq!(answered("SomethingNew", "", 400, None).kind, FaultKind::Config);
    for code in [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
        "MissingAuthenticationToken",
        "ResourceNotFoundException",
    ] {
        let fault = answered(code, "why", 400, None);
        assert_eq!(fault.kind, FaultKind::Config, "{code}");
        assert!(fault.what.contains(code) && fault.repair.is_some(), "{fault}");
    }
}

#[test]
fn a_wrong_clock_is_said_with_how_wrong_it_is() {
    let message = "Signature expired: 20000101T000000Z is now earlier than 20000101T000500Z";
    let fault = answered("InvalidSignatureException", message, 400, Some("Sat, 01 Jan 2000 00:05:00 GMT"));
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(fault.what.contains("this machine's clock is") && fault.what.contains("s ahead"), "{fault}");
}

#[test]
fn no_credentials_are_told_from_a_service_that_is_away() {
    let error = |source: CredentialsError| SdkError::<Service, HttpResponse>::construction_failure(source);
    let none = fault("x", "y", "z", error(CredentialsError::not_loaded("nothing in the chain")));
    assert_eq!(none.kind, FaultKind::Config);
    assert!(none.message().contains("no AWS credentials were found"), "{none}");
    let away = fault("x", "y", "z", error(CredentialsError::provider_error("503 from STS")));
    assert_eq!(away.kind, FaultKind::Retry);
    let unmade = SdkError::<Service, HttpResponse>::construction_failure(BuildError::other("x"));
    assert_eq!(fault("x", "y", "z", unmade).kind, FaultKind::Config);
    let late = SdkError::<Service, HttpResponse>::timeout_error("60 s");
    assert_eq!(fault("x", "y", "z", late).kind, FaultKind::Retry);
}

#[tokio::test]
async fn a_closed_port_may_open_again() {
    use crate::config::{AwsConfig, Credentials, load};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let given = Credentials::Static {
        access_key_id: "x".to_owned(),
        secret_access_key: "y".to_owned(),
        session_token: None,
    };
    let config = AwsConfig { region: "eu-west-2".to_owned(), endpoint: Some(endpoint), credentials: given };
    let config = load(&config).await.expect("a configuration");
    let client = aws_sdk_dynamodbstreams::Client::new(&config);
    let error = client.list_streams().send().await.expect_err("nobody listens");
    let fault = fault("listing streams", "dynamodb:ListStreams", "*", error);
    assert_eq!(fault.kind, FaultKind::Retry);
    assert!(fault.message().contains("AWS can't be reached"), "{fault}");
}
