//! What is lost in; a refusal that says which window of time is missing, and the command that brings it back, out.

use rollcall_aws::iso_time;
use rollcall_model::Fault;
use rollcall_model::shards::Stream;

use crate::config::DynamoSourceConfig;
use crate::tree::{Cause, Loss};

pub(crate) fn refusal(config: &DynamoSourceConfig, stream: &Stream, losses: &[Loss], now_us: i64) -> Fault {
    let all: Vec<_> = losses.iter().take(5).map(|loss| one(loss, now_us)).collect();
    let more = losses.len().saturating_sub(all.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let from = losses.iter().map(|loss| loss.from_us).min().unwrap_or_default();
    let to = losses.iter().map(|loss| end_us(loss, now_us)).max().unwrap_or(now_us);
    Fault::refused(format!(
        "changes of the table {} from {} to {} are missing: the stream {} no longer holds them: {}{more}",
        config.table,
        iso_time(from),
        iso_time(to),
        stream.name,
        all.join("; ")
    ))
    .repair(config.repair())
}

/// A window never ends before it begins: what is not known to be readable may be missing up to now.
fn end_us(loss: &Loss, now_us: i64) -> i64 {
    if loss.to_us > loss.from_us { loss.to_us } else { now_us }
}

fn one(loss: &Loss, now_us: i64) -> String {
    let shard = &loss.shard;
    let cause = match &loss.cause {
        Cause::Vanished => format!("the shard {shard} vanished before its end was read"),
        Cause::Trimmed => format!("the shard {shard} was trimmed beyond what was read"),
        Cause::Unread => format!("the shard {shard} was not read for longer than 24 hours"),
        Cause::Late => {
            format!(
                "the last repair of {shard} is older than this reader may take it up, and more may be lost since"
            )
        }
        Cause::Orphan { parent } => {
            format!("the shard {shard} came from the shard {parent}, which came and went unread")
        }
    };
    let read = match &loss.after {
        Some(sequence) => format!("the last record read is {sequence}"),
        None => "no record of it was read".to_owned(),
    };
    format!("{cause} ({read}; from {} to {})", iso_time(loss.from_us), iso_time(end_us(loss, now_us)))
}
