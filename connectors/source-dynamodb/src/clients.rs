//! The two services that a table is read through, and their clock.

use rollcall_aws::{AwsConfig, ServerClock, load};
use rollcall_model::Fault;

/// Clients of one account and region.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) tables: aws_sdk_dynamodb::Client,
    pub(crate) streams: aws_sdk_dynamodbstreams::Client,
    /// What both say of the time.
    pub(crate) clock: ServerClock,
}

impl Clients {
    pub(crate) async fn new(config: &AwsConfig) -> Result<Self, Fault> {
        let loaded = load(config).await?;
        let clock = ServerClock::default();
        let tables = aws_sdk_dynamodb::config::Builder::from(&loaded).interceptor(clock.clone()).build();
        let streams =
            aws_sdk_dynamodbstreams::config::Builder::from(&loaded).interceptor(clock.clone()).build();
        Ok(Self {
            tables: aws_sdk_dynamodb::Client::from_conf(tables),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams),
            clock,
        })
    }
}
