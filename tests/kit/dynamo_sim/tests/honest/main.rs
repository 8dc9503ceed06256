//! The simulator through the official SDK: alone, and beside DynamoDB Local.

#![allow(clippy::unwrap_used)]

mod clients;
mod emulator;
mod histories;
mod old;
mod script;
mod simulated;
mod transcript;
