//! The stream side against the simulator, where shards split, roll and are trimmed, and against DynamoDB Local.

mod emulator;
mod group;
mod losses;
mod refusals;
mod simulated;
