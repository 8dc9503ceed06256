//! Where the files of an export lie, the same for a folder and for S3: small files whole, data files checked.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rollcall_model::Fault;

use crate::bucket::Bucket;
use crate::config::{ExportConfig, Location};
use crate::manifest::{Beside, Checksum, DataFile, write_checksum};

/// A manifest lists a file in about 250 bytes: this is a quarter of a million of them.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A folder or a prefix that holds an export.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket(Bucket),
}

impl Place {
    pub(crate) async fn of(config: &ExportConfig) -> Result<Self, Fault> {
        match Location::parse(&config.location)? {
            Location::Folder(folder) => Ok(Self::Folder(folder)),
            Location::Bucket { bucket, prefix } => {
                Ok(Self::Bucket(Bucket::new(&config.aws, bucket, prefix, config.spool.clone()).await?))
            }
        }
    }

    /// A file's name, for people.
    pub(crate) fn name(&self, file: &Beside) -> String {
        match self {
            Self::Folder(folder) => path(folder, file).display().to_string(),
            Self::Bucket(bucket) => bucket.name(file),
        }
    }

    /// A small file, whole; `None` where there is none.
    pub(crate) async fn small(&self, file: &Beside) -> Result<Option<Vec<u8>>, Fault> {
        let read = match self {
            Self::Folder(folder) => {
                let path = path(folder, file);
                blocking(move || small(&path)).await?
            }
            Self::Bucket(bucket) => bucket.small(file).await?,
        };
        match read {
            Some(bytes) if bytes.len() as u64 > MANIFEST_BYTES_MAX => {
                Err(Fault::refused(format!("{} has more than {MANIFEST_BYTES_MAX} bytes", self.name(file)))
                    .repair("export the table again in incremental exports of shorter windows, or scan it"))
            }
            read => Ok(read),
        }
    }

    /// A data file from its start, after all of it was read once and has the checksum that the manifest gives.
    pub(crate) async fn checked(&self, file: &DataFile) -> Result<File, Fault> {
        match self {
            Self::Folder(folder) => {
                let (path, wanted) = (path(folder, &file.place), file.checksum);
                blocking(move || checked(&path, &wanted)).await
            }
            Self::Bucket(bucket) => bucket.checked(file).await,
        }
    }
}

fn path(folder: &Path, file: &Beside) -> PathBuf {
    match file {
        Beside::Within(rest) => folder.join(rest),
        // A path such as `x` has an empty parent, which is the folder that we are in.
        Beside::Above(rest) => folder.join("..").join(rest),
    }
}

/// Runs what waits for a disk where nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Fault::bug("reading a file panicked").from_source(e))?
}

fn small(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(unreadable(path, e)),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(path, e))?;
    Ok(Some(bytes))
}

fn checked(path: &Path, wanted: &Checksum) -> Result<File, Fault> {
    let mut file = File::open(path).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            missing(&path.display().to_string())
        } else {
            unreadable(path, e)
        }
    })?;
    let mut sum = Md5::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let read = file.read(&mut buffer).map_err(|e| unreadable(path, e))?;
        if read == 0 {
            break;
        }
        sum.update(&buffer[..read]);
    }
    same_sum(&path.display().to_string(), wanted, &Checksum::from(sum.finalize()))?;
    file.rewind().map_err(|e| unreadable(path, e))?;
    Ok(file)
}

/// Refuses a file that is not what the manifest lists.
pub(crate) fn same_sum(name: &str, wanted: &Checksum, found: &Checksum) -> Result<(), Fault> {
    if wanted == found {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "{name} has the md5 {}, the manifest says {}: it is damaged or not whole",
        write_checksum(found),
        write_checksum(wanted)
    ))
    .repair("copy the file again; if that doesn't help, export the table again"))
}

/// The fault of a data file that isn't there.
pub(crate) fn missing(name: &str) -> Fault {
    Fault::refused(format!("{name} is in the manifest but not there"))
        .repair("copy the export again, with all of its files; if it was deleted, export the table again")
}

fn unreadable(path: &Path, error: io::Error) -> Fault {
    let what = format!("can't read {}", path.display());
    let fault = if error.kind() == io::ErrorKind::PermissionDenied {
        Fault::config(what).repair(format!("let this process read it: chmod -R a+rX {}", path.display()))
    } else if error.kind() == io::ErrorKind::IsADirectory {
        Fault::refused(what).repair("copy the export again")
    } else {
        Fault::retry(what)
    };
    fault.from_source(error)
}
