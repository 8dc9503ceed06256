//! How connectors speak to AWS: region, endpoint, credentials, TLS, what a refusal means, whose clock it is.
//!
//! ```text
//! AwsConfig ──load──▶ SdkConfig ──▶ a service's client ──▶ AWS
//!                                        │  every answer's Date ──▶ ServerClock
//!                                        └─ SdkError ──fault──▶ Fault: what, where, which permission, what repairs it
//! ```
//!
//! The SDK's own retries are off. It would hold a call back for seconds where nobody sees it, and count throttling of one
//! shard against all; callers know what may be repeated, how long, and at which budget, and take their pauses from
//! [`Backoff`]. So each call is one request, and [`fault()`] says of each failure whether asking again can help.

mod backoff;
mod clock;
mod config;
mod fault;

pub use backoff::Backoff;
pub use clock::{ServerClock, iso_time};
pub use config::{AwsConfig, Credentials, load};
pub use fault::{code, fault, is_access_denied, is_not_found, is_throttling};
