//! The official SDK, pointed at an endpoint.

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};

/// One client of each service.
#[derive(Clone, Debug)]
pub struct Clients {
    pub tables: aws_sdk_dynamodb::Client,
    pub streams: aws_sdk_dynamodbstreams::Client,
}

impl Clients {
    pub fn new(url: &str) -> Self {
        Self::with_key(url, "sim")
    }

    pub fn with_key(url: &str, access_key_id: &str) -> Self {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let credentials = Credentials::new(access_key_id, "secret", None, None, "test");
        let region = Region::new("eu-west-2");
        let tables = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .credentials_provider(credentials.clone())
            .region(region.clone())
            .retry_config(RetryConfig::disabled())
            .endpoint_url(url)
            .build();
        let streams = aws_sdk_dynamodbstreams::Config::builder()
            .behavior_version(aws_sdk_dynamodbstreams::config::BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(credentials)
            .region(region)
            .retry_config(RetryConfig::disabled())
            .endpoint_url(url)
            .build();
        Self {
            tables: aws_sdk_dynamodb::Client::from_conf(tables),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams),
        }
    }
}
