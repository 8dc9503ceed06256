//! The torn end of the store's journal.
//!
//! ```text
//! … batch ✓ │ batch ✓ │ start  items  ░░░░  items  end │ 0000…
//!                       the last batch: its end arrived on disk, its middle did not
//! ```
//!
//! A batch is acknowledged only after a sync, so a last batch with a hole was never acknowledged. The store drops a
//! last batch without an end by itself; cutting one byte off the end makes this one such. A hole further forward is
//! another matter: the store finds it again, and the log stays closed. What is cut is kept beside the journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rollcall_model::Fault;

use crate::folder::io_fault;

const BLOCK_BYTES: u64 = 64 << 10;

/// A journal without its end.
pub(crate) struct Cut {
    journal: PathBuf,
    whole: PathBuf,
}

impl Cut {
    /// Puts the end back: it was not what was wrong.
    pub(crate) fn undo(self, store: &Path) -> Result<(), Fault> {
        fs::rename(&self.whole, &self.journal)
            .map_err(|e| io_fault("can't put the log's journal back", store, e))
    }
}

/// Cuts the end of the newest journal, when there is something to cut.
pub(crate) fn cut_torn_end(store: &Path, why: &fjall::Error) -> Result<Option<Cut>, Fault> {
    let cut = || -> io::Result<Option<Cut>> {
        let Some(journal) = newest(store)? else { return Ok(None) };
        let Some(last) = last_written(&mut File::open(&journal)?)? else { return Ok(None) };
        let whole = journal.with_extension("jnl.torn");
        fs::copy(&journal, &whole)?;
        let file = OpenOptions::new().write(true).open(&journal)?;
        file.set_len(last)?;
        file.sync_all()?;
        tracing::warn!(
            %why, journal = %journal.display(), kept = %whole.display(),
            "the journal's last batch is torn; it was never acknowledged and is dropped"
        );
        Ok(Some(Cut { journal, whole }))
    };
    cut().map_err(|e| io_fault("can't mend the log's journal", store, e))
}

fn newest(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) =
            number.filter(|number| is_journal && newest.as_ref().is_none_or(|(n, _)| n < number))
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the last byte stands that is not zero: what follows was only reserved, and a batch's end is never zero.
fn last_written(file: &mut File) -> io::Result<Option<u64>> {
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(Some(start + last as u64));
        }
        end = start;
    }
    Ok(None)
}
