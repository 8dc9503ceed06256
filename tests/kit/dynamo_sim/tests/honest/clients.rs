//! The official SDK, pointed at an endpoint, with what it was answered kept as it came.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;

/// An answer as it came: its status and its body.
pub(crate) type Heard = (u16, String);

/// One client of each service.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) tables: aws_sdk_dynamodb::Client,
    pub(crate) streams: aws_sdk_dynamodbstreams::Client,
    heard: Arc<Mutex<Option<Heard>>>,
}

impl Clients {
    pub(crate) fn new(url: &str) -> Self {
        Self::with_key(url, "sim")
    }

    pub(crate) fn with_key(url: &str, access_key_id: &str) -> Self {
        let heard = Arc::default();
        let http = aws_smithy_http_client::Builder::new().build_http();
        let credentials = Credentials::new(access_key_id, "secret", None, None, "test");
        let tables = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .credentials_provider(credentials.clone())
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .interceptor(Ear(Arc::clone(&heard)))
            .endpoint_url(url)
            .build();
        let streams = aws_sdk_dynamodbstreams::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(credentials)
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .interceptor(Ear(Arc::clone(&heard)))
            .endpoint_url(url)
            .build();
        Self {
            tables: aws_sdk_dynamodb::Client::from_conf(tables),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams),
            heard,
        }
    }

    /// What the last request was answered.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().take().expect("an answer")
    }
}

/// Hears what the SDK hears.
#[derive(Debug)]
struct Ear(Arc<Mutex<Option<Heard>>>);

impl Intercept for Ear {
    fn name(&self) -> &'static str {
        "Ear"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        *self.0.lock().unwrap() = Some((response.status().as_u16(), body.unwrap_or_default()));
        Ok(())
    }
}
