//! A simulator of DynamoDB and its streams.
