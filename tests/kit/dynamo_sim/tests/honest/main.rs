//! The simulator through the official SDK: alone, and beside DynamoDB Local.

mod clients;
mod emulator;
mod script;
mod simulated;
mod transcript;
