//! A broker that asks who comes, and one with TLS. All that needs it stands together, so that it is started once.

mod oauth;
mod rights;

use std::sync::{Arc, Mutex, Weak};

use rollcall_test_servers::{Kafka, KafkaSettings};

use crate::support::{patient, shared, together};

static SECURED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

/// The broker. `ann` may nothing that isn't allowed her.
fn secured() -> Arc<Kafka> {
    let users = [("admin", "of-the-admin"), ("ann", "of-ann")];
    let users = users.map(|(user, password)| (user.to_owned(), password.to_owned())).to_vec();
    shared(&SECURED, || {
        Kafka::start_with(patient(KafkaSettings { users, tls: true, ..KafkaSettings::default() }))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rights_and_tokens() {
    together([
        tokio::spawn(oauth::a_log_is_used_by_token_and_tokens_are_renewed()),
        tokio::spawn(oauth::no_token_is_to_be_had()),
        tokio::spawn(rights::who_we_are_is_refused()),
        tokio::spawn(rights::an_authority_that_did_not_sign_is_named()),
        tokio::spawn(rights::each_right_that_is_missing_is_named()),
        tokio::spawn(rights::a_topic_that_we_may_not_see_is_not_called_lost()),
    ])
    .await;
}
