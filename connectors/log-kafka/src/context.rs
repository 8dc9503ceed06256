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
use rollcall_model::{Fault, FaultKind};
use tracing::{debug, warn};

use crate::config::OauthConfig;
use crate::group::Membership;
use crate::oauth;

/// So long the last word on why we are refused counts: librdkafka says the same again after 30 s at the soonest, and what
/// it says in between, that no broker is up, follows from it.
const LASTS: Duration = Duration::from_secs(60);
/// A broker that starts may refuse those whom it hasn't read of yet.
const FINAL_AFTER: Duration = Duration::from_secs(2);

/// What a client met last, kept until it works again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    state: Arc<Mutex<Option<Trouble>>>,
    /// How the last connection ended.
    hung_up: Arc<Mutex<String>>,
}

/// Why a client doesn't work.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) code: Code,
    pub(crate) text: String,
    /// Set where the brokers have no part in it: there is no token to come with.
    pub(crate) token: Option<(FaultKind, Option<String>)>,
    since: Instant,
    said: Instant,
}

impl Trouble {
    fn is_refusal(&self) -> bool {
        is_refusal(self.code)
    }
}

/// Nothing but a person ends these, when they last.
pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL
    )
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brokers come and go one by one, which librdkafka sees to; what counts is that none answers, or none will.
    fn note(&self, code: Code, text: &str) {
        if is_refusal(code)
            || matches!(code, Code::AllBrokersDown | Code::Resolve | Code::GroupAuthorizationFailed)
        {
            self.put(code, text, None);
        }
    }

    /// A connection ended, as librdkafka's log says.
    fn note_hung_up(&self, text: &str) {
        text.clone_into(&mut self.hung_up.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn put(&self, code: Code, text: &str, token: Option<(FaultKind, Option<String>)>) {
        let mut state = self.lock();
        let now = Instant::now();
        let since = state.as_ref().map_or(now, |trouble| trouble.since);
        if let Some(known) = state.as_ref().filter(|known| known.said.elapsed() < LASTS) {
            let follows = known.is_refusal() && !is_refusal(code);
            if token.is_none() && (follows || known.token.is_some()) {
                return;
            }
        }
        *state = Some(Trouble { code, text: text.to_owned(), token, since, said: now });
    }

    /// It works.
    pub(crate) fn good(&self) {
        self.lock().take();
    }

    /// What only a person ends, or what lasts longer than `patience`.
    pub(crate) fn trouble(&self, patience: Duration) -> Option<Trouble> {
        let state = self.lock();
        let trouble = state.as_ref()?;
        let lasted = trouble.since.elapsed();
        (lasted > patience || (trouble.is_refusal() && lasted > FINAL_AFTER)).then(|| self.told(trouble))
    }

    /// What was met last, whatever it is.
    pub(crate) fn last(&self) -> Option<Trouble> {
        let state = self.lock();
        let counts = |known: &&Trouble| !known.is_refusal() || known.said.elapsed() < LASTS;
        state.as_ref().filter(counts).map(|trouble| self.told(trouble))
    }

    /// That brokers are down, librdkafka says as an error; why, in its log.
    fn told(&self, trouble: &Trouble) -> Trouble {
        let why = self.hung_up.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.code != Code::AllBrokersDown || why.is_empty() {
            return trouble.clone();
        }
        Trouble { text: format!("{}: {why}", trouble.text), ..trouble.clone() }
    }

    /// Why there is no token, if that is so.
    pub(crate) fn no_token(&self) -> Option<Trouble> {
        self.last().filter(|trouble| trouble.token.is_some())
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

    /// Remembers why there is no token; in words.
    pub(crate) fn no_token(&self, fault: Fault) -> String {
        let text = fault.message();
        warn!("{text}");
        self.health.put(Code::Authentication, &text, Some((fault.kind, fault.repair)));
        text
    }

    /// What was delivered since the last call.
    pub(crate) fn take_delivered(&self) -> Delivered {
        std::mem::take(&mut *self.delivered())
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if facility == "FAIL" {
            self.health.note_hung_up(text.rsplit_once("]: ").map_or(text, |(_, text)| text));
        }
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
        oauth::token(oauth).map_err(|fault| self.no_token(fault).into())
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
