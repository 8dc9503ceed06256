//! DynamoDB as a source.
