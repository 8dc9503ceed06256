//! The end of a partition where nothing but aborted records stands: a reader there has reached the end, and nothing says so.
//!
//! ```text
//!   … 8753 ✓ │ 8754 ✗ 8755 ✗ 8756 ✗ 8757 ✗ 8758 mark │ 8759 = end
//!            └ librdkafka's position stays here until a visible record follows
//! ```
//!
//! A dead writer leaves such an end, and where the one who takes over reads to the end before it writes, it would wait
//! for itself. So who has waited a while looks: a reader of its own begins at the place reached; if it meets the end
//! before any record, all that was below the end when it began is passed.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Serve as _, make};
use crate::config::KafkaLogConfig;
use crate::context::Context;

/// A look that takes longer says nothing.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Whether no record is to be seen from `at` to where the partition ends now. Blocks; `false` where it can't be told.
pub(crate) fn nothing_follows(config: &KafkaLogConfig, name: &str, partition: i32, at: i64) -> bool {
    let mut client = config.reader(true);
    client.set("enable.partition.eof", "true");
    let Ok((consumer, _)) = make::<BaseConsumer<Context>>(config, &client) else { return false };
    consumer.serve();
    let mut places = TopicPartitionList::new();
    let added = places.add_partition_offset(name, partition, Offset::Offset(at));
    if added.is_err() || consumer.assign(&places).is_err() {
        return false;
    }
    let until = Instant::now() + LOOK_WITHIN;
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(_))) => return true,
            Some(Ok(_) | Err(_)) => return false,
            None => {}
        }
    }
    false
}
