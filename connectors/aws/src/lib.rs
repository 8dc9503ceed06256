//! How connectors speak to AWS: region, endpoint, credentials, TLS, and what a refusal means.
