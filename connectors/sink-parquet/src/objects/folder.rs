//! Objects as files of a folder.
//!
//! A file is written under a name that nobody reads, synced, and renamed without replacing; then its folder is synced.
//! So what has its name is whole, also after the machine lost power.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use rollcall_model::Fault;
use tempfile::NamedTempFile;

use super::{Object, Page, Put, spool_fault};

/// How files begin that have not got their name yet.
const UNFINISHED: &str = ".unfinished-";

/// A folder that holds a lake.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// How far the clock of its disk is ahead: it may be another machine's.
    ahead_us: i64,
}

impl Folder {
    /// Makes the folder where there is none, and sees that it can be written.
    pub(super) async fn open(root: &Path) -> Result<Self, Fault> {
        let folder = Self { root: root.to_owned(), ahead_us: 0 };
        let ahead_us = folder
            .blocking(|folder| {
                fs::create_dir_all(&folder.root)?;
                let mut file = unfinished(&folder.root)?;
                file.write_all(b"?")?;
                Ok(modified_us(&file.as_file().metadata()?)?.saturating_sub(crate::clock::now_us()))
            })
            .await?
            .map_err(|e| folder.fault("making the folder", "", e))?;
        Ok(Self { ahead_us, ..folder })
    }

    /// To read it: nothing is made, nothing written.
    pub(super) fn look(root: &Path) -> Self {
        Self { root: root.to_owned(), ahead_us: 0 }
    }

    pub(super) fn name(&self, key: &str) -> String {
        self.root.join(key).display().to_string()
    }

    pub(super) fn ahead_us(&self) -> i64 {
        self.ahead_us
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let folder = self.clone();
        tokio::task::spawn_blocking(move || work(&folder))
            .await
            .map_err(|e| Fault::bug("work on the lake's folder panicked").from_source(e))
    }

    fn fault(&self, doing: &str, key: &str, error: io::Error) -> Fault {
        let name = self.name(key);
        let what = format!("{doing} {name}");
        let wrong = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::InvalidFilename
        );
        let (fault, repair) = if wrong {
            let repair = "let the user who runs rollcall write there (chown, chmod), or name another folder";
            (Fault::config(what), repair)
        } else if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            (Fault::retry(what), "make room on the disk; the log keeps everything meanwhile")
        } else {
            (Fault::retry(what), "see that the disk is mounted and sound")
        };
        fault.repair(repair).from_source(error)
    }

    pub(super) async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, Fault> {
        let owned = key.to_owned();
        self.blocking(move |folder| folder.put(&owned, |file| file.write_all(&bytes)))
            .await?
            .map_err(|e| self.fault("writing", key, e))
    }

    pub(super) async fn upload_file(&self, key: &str, file: &Path) -> Result<Put, Fault> {
        let (owned, from) = (key.to_owned(), file.to_owned());
        self.blocking(move |folder| {
            let mut source = File::open(&from).map_err(|e| spool_fault(&from, e))?;
            folder
                .put(&owned, |to| io::copy(&mut source, to).map(drop))
                .map_err(|e| folder.fault("writing", &owned, e))
        })
        .await?
    }

    fn put(&self, key: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Put> {
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        // Whoever gave it that name may have been killed before it was durable.
        let there = || sync_folder(folder).map(|()| Put::AlreadyThere);
        if path.try_exists()? {
            return there();
        }
        self.make(folder)?;
        let mut file = unfinished(folder)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => {
                sync_folder(folder)?;
                Ok(Put::Written)
            }
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => there(),
            Err(failed) => Err(failed.error),
        }
    }

    /// Makes a folder within ours, each step durable.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root {
            return Ok(());
        }
        let above = folder.parent().unwrap_or(&self.root);
        self.make(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => sync_folder(above),
        }
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Fault> {
        let owned = key.to_owned();
        let read = self.blocking(move |folder| {
            let Some(file) = found(File::open(folder.root.join(owned)))? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        });
        let Some(bytes) = read.await?.map_err(|e| self.fault("reading", key, e))? else { return Ok(None) };
        if bytes.len() as u64 > bytes_max {
            return Err(too_large(&self.name(key), bytes_max));
        }
        Ok(Some(bytes.into()))
    }

    pub(super) async fn download(&self, key: &str, to: &Path) -> Result<Option<u64>, Fault> {
        let (owned, to) = (key.to_owned(), to.to_owned());
        self.blocking(move |folder| {
            let opened = found(File::open(folder.root.join(&owned)));
            let Some(mut from) = opened.map_err(|e| folder.fault("reading", &owned, e))? else {
                return Ok(None);
            };
            let mut file = File::create(&to).map_err(|e| spool_fault(&to, e))?;
            io::copy(&mut from, &mut file).map(Some).map_err(|e| spool_fault(&to, e))
        })
        .await?
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Object>, Fault> {
        let owned = key.to_owned();
        self.blocking(move |folder| {
            let Some(about) = found(fs::metadata(folder.root.join(&owned)))? else { return Ok(None) };
            object(owned, &about).map(Some)
        })
        .await?
        .map_err(|e| self.fault("looking at", key, e))
    }

    /// All of them: names of a folder of this machine.
    pub(super) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Fault> {
        let (owned, after) = (prefix.to_owned(), after.map(str::to_owned));
        let walk = self.blocking(move |folder| {
            let mut objects = Vec::new();
            folder.walk(&owned, &mut |key, about| {
                let finished = !key.rsplit('/').next().is_some_and(|name| name.starts_with(UNFINISHED));
                if finished && after.as_ref().is_none_or(|after| *after < key) {
                    objects.push(object(key, about)?);
                }
                Ok(())
            })?;
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        });
        let objects = walk.await?.map_err(|e| self.fault("listing", prefix, e))?;
        Ok(Page { objects, next: None })
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Fault> {
        let owned = key.to_owned();
        self.blocking(move |folder| found(fs::remove_file(folder.root.join(owned))).map(drop))
            .await?
            .map_err(|e| self.fault("removing", key, e))
    }

    pub(super) async fn abort_uploads(&self, prefix: &str, age_us: i64) -> Result<u64, Fault> {
        let owned = prefix.to_owned();
        self.blocking(move |folder| {
            let before_us = crate::clock::now_us().saturating_add(folder.ahead_us).saturating_sub(age_us);
            let mut abandoned = Vec::new();
            folder.walk(&owned, &mut |key, about| {
                let unfinished = key.rsplit('/').next().is_some_and(|name| name.starts_with(UNFINISHED));
                if unfinished && modified_us(about)? <= before_us {
                    abandoned.push(key);
                }
                Ok(())
            })?;
            for key in &abandoned {
                found(fs::remove_file(folder.root.join(key)))?;
            }
            Ok(abandoned.len() as u64)
        })
        .await?
        .map_err(|e| self.fault("cleaning", prefix, e))
    }

    /// Every file whose key begins with `prefix`. What vanishes meanwhile is not there.
    fn walk(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(String, &fs::Metadata) -> io::Result<()>,
    ) -> io::Result<()> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut open = vec![(folder.to_owned(), self.root.join(folder))];
        while let Some((above, path)) = open.pop() {
            let Some(entries) = found(fs::read_dir(&path))? else { continue };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let key = if above.is_empty() { name } else { format!("{above}/{name}") };
                let Some(about) = found(entry.metadata())? else { continue };
                if about.is_dir() {
                    open.push((key, entry.path()));
                } else if key.starts_with(prefix) {
                    each(key, &about)?;
                }
            }
        }
        Ok(())
    }
}

/// A file that has no name yet. Temporary files are their owner's alone, but an object is as readable as any file that
/// the user makes.
fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn modified_us(about: &fs::Metadata) -> io::Result<i64> {
    let since = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn object(key: String, about: &fs::Metadata) -> io::Result<Object> {
    Ok(Object { key, bytes: about.len(), modified_us: modified_us(about)? })
}

pub(super) fn too_large(name: &str, bytes_max: u64) -> Fault {
    Fault::refused(format!("{name} has more than {bytes_max} bytes"))
        .repair("if it is a manifest: rollcall lake compact makes it small")
}
