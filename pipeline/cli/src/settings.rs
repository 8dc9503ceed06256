//! The topology file as commands want it.

use std::path::{Path, PathBuf};

use rollcall_runtime::topology::{HttpConfig, Topology};

use crate::failure::Failure;

/// The file that `-c` named, and its text.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

/// A variable of the environment.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Settings {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Config(vec![format!(
                "can't read the topology {}: {error}\nrepair: name another with --config, or start from the example \
                 in README.md",
                path.display()
            )])
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// All of it; relative paths start at the file's folder.
    pub(crate) fn topology(&self) -> Result<Topology, Failure> {
        let topology = Topology::parse(&self.text, &variable)
            .map_err(|faults| Failure::topology(&self.path, &faults))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(topology.rooted_at(folder.unwrap_or(Path::new("."))))
    }

    /// Where the running instance is. The rest of the file, and the variables it needs, don't matter to a command that
    /// only asks.
    pub(crate) fn http(&self) -> Result<HttpConfig, Failure> {
        Topology::parse_http(&self.text, &variable).map_err(|faults| Failure::topology(&self.path, &faults))
    }

    /// The command that starts an instance with this file.
    pub(crate) fn run_command(&self) -> String {
        format!("rollcall --config {} run", self.path.display())
    }
}
