//! What librdkafka tells on the side: its log lines, its clients' errors, and its wish for a new token.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use tracing::{debug, warn};

use crate::config::OauthConfig;
use crate::group::Membership;
use crate::oauth;

/// What a client met last, kept until it works again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    state: Arc<Mutex<Option<Trouble>>>,
}

#[derive(Clone, Debug)]
struct Trouble {
    code: Code,
    text: String,
    since: Instant,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brokers come and go one by one, which librdkafka sees to; what counts is that none answers, or none will.
    fn note(&self, code: Code, text: &str) {
        if !matches!(
            code,
            Code::AllBrokersDown
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::SSL
                | Code::Resolve
                | Code::GroupAuthorizationFailed
        ) {
            return;
        }
        let mut state = self.lock();
        let since = state.as_ref().map_or_else(Instant::now, |trouble| trouble.since);
        *state = Some(Trouble { code, text: text.to_owned(), since });
    }

    /// It works.
    pub(crate) fn good(&self) {
        self.lock().take();
    }

    /// The error that nothing but a person ends, or that lasts longer than `patience`.
    pub(crate) fn trouble(&self, patience: Duration) -> Option<(Code, String)> {
        let state = self.lock();
        let trouble = state.as_ref()?;
        let is_final =
            matches!(trouble.code, Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)
                && trouble.since.elapsed() > Duration::from_millis(500);
        (is_final || trouble.since.elapsed() > patience).then(|| (trouble.code, trouble.text.clone()))
    }

    /// The error met last, whatever it is.
    pub(crate) fn last(&self) -> Option<(Code, String)> {
        self.lock().as_ref().map(|trouble| (trouble.code, trouble.text.clone()))
    }
}

/// The context of every client of the log.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) health: Health,
    oauth: Option<OauthConfig>,
    delivered: Mutex<Delivered>,
    membership: OnceLock<Arc<Membership>>,
}

/// What became of the records of the commit under way.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// The first offset per topic and partition.
    pub(crate) first: BTreeMap<(String, i32), i64>,
    /// Why one of them wasn't written.
    pub(crate) failed: Option<KafkaError>,
}

impl Context {
    pub(crate) fn new(oauth: Option<OauthConfig>) -> Self {
        Self { oauth, ..Self::default() }
    }

    pub(crate) fn delivered(&self) -> MutexGuard<'_, Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rebalances of the group are this membership's from here on.
    pub(crate) fn join(&self, membership: Arc<Membership>) {
        // A client joins once.
        let _ = self.membership.set(membership);
    }

    /// What was delivered since the last call.
    pub(crate) fn take_delivered(&self) -> Delivered {
        std::mem::take(&mut *self.delivered())
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => debug!(target: "librdkafka", facility, "{text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {}
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = crate::fault::code_of(&error).unwrap_or(Code::Fail);
        debug!(target: "librdkafka", "{error}: {reason}");
        self.health.note(code, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let oauth = self.oauth.as_ref().ok_or("log.sasl has no token endpoint")?;
        oauth::token(oauth).map_err(|fault| {
            let text = format!("no token of {}: {fault}", oauth.token_url);
            warn!("{text}");
            self.health.note(Code::Authentication, &text);
            text.into()
        })
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Some(membership) = self.membership.get() {
            membership.revoking(rebalance);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Some(membership) = self.membership.get() {
            membership.assigned(rebalance);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.delivered();
        match result {
            Ok(message) => {
                let at = (message.topic().to_owned(), message.partition());
                let first = delivered.first.entry(at).or_insert_with(|| message.offset());
                *first = message.offset().min(*first);
            }
            Err((error, _)) => {
                // The first failure is the cause; later ones follow from it.
                delivered.failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}
