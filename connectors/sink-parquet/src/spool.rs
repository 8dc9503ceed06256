//! Where files of the lake are while they are worked on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollcall_model::Fault;

use crate::objects::spool_fault;

/// A folder for files that are looked at; it goes with its last owner.
#[derive(Clone, Debug)]
pub(crate) struct Spool(Arc<tempfile::TempDir>);

impl Spool {
    pub(crate) fn make(folder: &Path, prefix: &str) -> Result<Self, Fault> {
        let made = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(prefix).tempdir_in(folder));
        Ok(Self(Arc::new(made.map_err(|e| spool_fault(folder, e))?)))
    }

    pub(crate) fn file(&self, n: usize) -> PathBuf {
        self.0.path().join(n.to_string())
    }
}
