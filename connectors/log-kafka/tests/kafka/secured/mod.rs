//! A broker that asks who comes, and one with TLS. All that needs it stands together, so that it is started once.

mod oauth;
mod rights;

use std::sync::{Arc, Mutex, Weak};

use rollcall_test_servers::{Kafka, KafkaSettings};

use crate::support::{patient, shared};

static SECURED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

/// The broker. `ann` may nothing that isn't allowed her.
fn secured() -> Arc<Kafka> {
    let users = [("admin", "of-the-admin"), ("ann", "of-ann")];
    let users = users.map(|(user, password)| (user.to_owned(), password.to_owned())).to_vec();
    shared(&SECURED, || {
        Kafka::start_with(patient(KafkaSettings { users, tls: true, ..KafkaSettings::default() }))
    })
}
