//! Where `libchdb.so` is: the setting, else the environment, else beside the executable, else the tests' cache folder.

use std::path::{Path, PathBuf};

use rollcall_model::Fault;

/// What brings the engine to a machine.
pub(crate) const INSTALL: &str = "tests/servers/install (or: npm install @chdb/lib-linux-x64-gnu@26.7.3-stable.1, then set ROLLCALL_LIBCHDB to its libchdb.so)";
/// The environment variable that names the file.
const VARIABLE: &str = "ROLLCALL_LIBCHDB";
/// The file in the cache folder that `tests/servers/install` fills.
const IN_CACHE: &str = "chdb/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";

/// Finds the library. A file that was named but is not there is refused, never replaced by another.
pub(crate) fn find(setting: Option<&Path>) -> Result<PathBuf, Fault> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = setting.map(Path::to_owned).or(variable) {
        if named.is_file() {
            return Ok(named);
        }
        let what = format!("the ClickHouse engine is to be {}, which is not a file", named.display());
        return Err(Fault::config(what).repair(INSTALL));
    }
    let places = places();
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        Fault::config(format!(
            "the ClickHouse engine (libchdb.so) was not found; looked at {}",
            tried.join(", ")
        ))
        .repair(INSTALL)
    })
}

fn places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("lib/libchdb.so")));
    let cache = std::env::var_os("ROLLCALL_SERVERS").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/rollcall/servers"))
    });
    beside.into_iter().chain(cache.map(|cache| cache.join(IN_CACHE))).collect()
}
