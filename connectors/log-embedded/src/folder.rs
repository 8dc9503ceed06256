//! The folder of a log: who holds it, what it says it is, and how much room is left.
//!
//! ```text
//! <path>/lock      locked while a process has the log open; holds its pid
//! <path>/log.json  what the folder is, in a format that every version can read
//! <path>/store/    the store; it knows the log's identity too
//! ```
//!
//! The store is made before `log.json`: with the label there and the identity not in the store, somebody removed the
//! store, and going on would give old places to new records.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rollcall_model::{Fault, LogId};
use serde::{Deserialize, Serialize};

/// Raised when an older version could misread the folder.
pub(crate) const FOLDER_FORMAT: u32 = 1;
const LABEL: &str = "log.json";
/// What disks count in, whatever their block size.
const STAT_BLOCK_BYTES: u64 = 512;

/// What a folder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) format: u32,
    pub(crate) log_id: LogId,
    pub(crate) epoch: u32,
    pub(crate) partitions: u16,
}

/// The only key of a label that every later format keeps.
#[derive(Deserialize)]
struct AnyLabel {
    format: u32,
}

/// A folder that this process holds until it lets go.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

/// An error of the file system, as what to do about it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of an io::Error are foreign, open and many")]
pub(crate) fn io_fault(what: &str, path: &Path, error: io::Error) -> Fault {
    let place = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Fault::retry(format!("{what}: the disk of {place} is full"))
                .repair(format!("make room on the disk that holds {place}; Rollcall goes on by itself"))
                .from_source(error)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Fault::config(format!("{what}: no right to write in {place}"))
                .repair(format!("chown -R the user that runs rollcall {place}, or set another log.path"))
                .from_source(error)
        }
        // What is not named above may pass.
        _ => Fault::retry(format!("{what} in {place}"))
            .repair(format!("look at the disk that holds {place} (dmesg); Rollcall tries again"))
            .from_source(error),
    }
}

impl Folder {
    /// Makes the folder if it isn't there, and holds it.
    pub(crate) fn hold(path: &Path) -> Result<Self, Fault> {
        fs::create_dir_all(path).map_err(|e| io_fault("can't make the log's folder", path, e))?;
        let lock_path = path.join("lock");
        let failed = |e| io_fault("can't lock the log's folder", path, e);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Lets another process have it. Dropping does so too; readers may still hold this one.
    pub(crate) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of the log's folder goes only with the process");
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.path.join("store")
    }

    fn label_path(&self) -> PathBuf {
        self.path.join(LABEL)
    }

    /// What the folder says it is; `None` when it is new.
    pub(crate) fn label(&self) -> Result<Option<Label>, Fault> {
        label_in(&self.path)
    }

    /// Writes the label, whole or not at all.
    pub(crate) fn set_label(&self, label: &Label) -> Result<(), Fault> {
        let path = self.label_path();
        let fresh = path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec_pretty(label)?)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|e| io_fault("can't write what the log is", &path, e))
    }

    /// What is free on its disk, for this user.
    pub(crate) fn free_bytes(&self) -> Result<u64, Fault> {
        let stat = rustix::fs::statvfs(&self.path)
            .map_err(|e| io_fault("can't ask for the room on the log's disk", &self.path, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What its files take on disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64, Fault> {
        disk_bytes(&self.path).map_err(|e| io_fault("can't measure the log's folder", &self.path, e))
    }
}

/// What a folder says it is; `None` when it is new.
pub(crate) fn label_in(folder: &Path) -> Result<Option<Label>, Fault> {
    let path = folder.join(LABEL);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_fault("can't read what the log is", &path, error)),
    };
    let place = path.display();
    let broken = |error| {
        Fault::refused(format!("{place} is not the label of a Rollcall log"))
            .repair(format!("restore {place} from a backup, or set another log.path"))
            .from_source(error)
    };
    let AnyLabel { format } = serde_json::from_slice(&text).map_err(broken)?;
    if format > FOLDER_FORMAT {
        return Err(Fault::refused(format!(
            "the log in {} has format {format}, made by a newer Rollcall; this one reads up to {FOLDER_FORMAT}",
            folder.display()
        ))
        .repair("run the newer rollcall, or set another log.path"));
    }
    serde_json::from_slice(&text).map(Some).map_err(broken)
}

/// Files come and go while the store works: what is gone takes nothing.
fn disk_bytes(path: &Path) -> io::Result<u64> {
    let gone_is_nothing =
        |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return gone_is_nothing(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path())?,
            Ok(metadata) => metadata.blocks() * STAT_BLOCK_BYTES,
            Err(error) => gone_is_nothing(error)?,
        };
    }
    Ok(bytes)
}

fn held(path: &Path, lock: &mut File) -> Fault {
    let mut pid = String::new();
    let known = lock.rewind().and_then(|()| lock.read_to_string(&mut pid)).is_ok();
    let holder = match pid.trim() {
        pid if known && !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let place = path.display();
    Fault::config(format!("the log in {place} is in use by {holder}"))
        .repair(format!("stop {holder}, or set another log.path: one process per log folder"))
}
