//! Failpoints for the crash tests: `ROLLCALL_CRASH_AT=POINT:N` ends the process, without a word to anybody, the Nth
//! time that it comes between these two side effects. Unset, a point costs one load.
//!
//! | point | between |
//! |---|---|
//! | `source-decided`, `source-committed`, `source-released` | events read · log commit · upstream told |
//! | `roster-decided`, `roster-committed`, `roster-stored` | judged · log commit · store written |
//! | `sink-written` | the sink's own commit · progress in the log |
//! | `archive-written`, `archive-stored` | some of an archive in a sink and progress, or in a store · the rest of it |
//! | `lake-planned`, `lake-uploaded`, `lake-listed` | ranges in progress · files stored · files listed · progress in the log |

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "ROLLCALL_CRASH_AT";

struct Armed {
    point: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// A place where the process may be made to end.
pub(crate) fn here(point: &str) {
    let armed = ARMED.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let (point, times) = value.split_once(':')?;
        Some(Armed { point: point.to_owned(), left: AtomicU64::new(times.parse().ok()?) })
    });
    if let Some(armed) = armed.as_ref().filter(|armed| armed.point == point)
        && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
