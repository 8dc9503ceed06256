//! Where files of the lake are while they are worked on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rollcall_model::Fault;

use crate::objects::spool_fault;

/// A folder in which nothing was made or removed for so long is nobody's: whoever made it was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// A folder for files that are looked at; it goes with its last owner.
#[derive(Clone, Debug)]
pub(crate) struct Spool(Arc<tempfile::TempDir>);

impl Spool {
    /// Makes one. Those of the same prefix that a kill left are removed.
    pub(crate) fn make(folder: &Path, prefix: &str) -> Result<Self, Fault> {
        remove_abandoned(folder, prefix, SystemTime::now());
        let made = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(prefix).tempdir_in(folder));
        Ok(Self(Arc::new(made.map_err(|e| spool_fault(folder, e))?)))
    }

    pub(crate) fn file(&self, n: usize) -> PathBuf {
        self.0.path().join(n.to_string())
    }
}

/// As far as it can be: what stays costs room and nothing else.
fn remove_abandoned(folder: &Path, prefix: &str, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(prefix);
        let changed = entry.metadata().and_then(|about| about.modified());
        let is_old = changed.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > ABANDONED_AFTER));
        if is_one && is_old {
            let _removed = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_goes_after_a_day_and_nothing_else() {
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["read-1", "compact-1"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let there = |name: &str| folder.path().join(name).exists();
        remove_abandoned(folder.path(), "read-", SystemTime::now() + ABANDONED_AFTER / 2);
        assert!(there("read-1"), "somebody may be reading");
        remove_abandoned(folder.path(), "read-", SystemTime::now() + 2 * ABANDONED_AFTER);
        assert!(!there("read-1") && there("compact-1"));
    }
}
