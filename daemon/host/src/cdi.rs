//! One CDI spec for each grant: what a container runtime adds to a container that names the grant's device.
//!
//! The kubelet stores the device's name with the pod and replays it for as long as the pod lives, over restarts and
//! reboots, and runtimes cache specs by name; so a name is a grant's for ever and is never used for other content
//! while a container runs with it. The file `<vendor>-<class>_<grant>.json` is written beside itself and renamed: a
//! runtime sees all of it or nothing (it reads `.json` and `.yaml` only, and the temporary name has neither). There
//! is no fsync: the directory is a tmpfs, and after a reboot the daemon writes every spec again from its journal.
//!
//! Files that this writer did not name are never touched.

mod spec;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::lease::GrantId;

use spec::Spec;

/// A CDI spec could not be written, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// Vendor, class or device name break CDI's grammar.
    #[error("{text:?} cannot be a CDI {what}")]
    Name {
        /// `vendor`, `class` or `device name`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The grant brings nothing: runtimes refuse such a device.
    #[error("the CDI device of grant {grant} would be empty")]
    Empty {
        /// The grant.
        grant: GrantId,
    },
    /// A device node or mount source that the spec names is not there.
    #[error("looking at {} for the CDI device of grant {grant}", path.display())]
    Look {
        /// The grant.
        grant: GrantId,
        /// The host path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What should be a device node is something else.
    #[error("{} is not a character device", path.display())]
    NotADevice {
        /// The host path.
        path: PathBuf,
    },
    /// A path is not UTF-8, which JSON cannot say.
    #[error("{} is not UTF-8", path.display())]
    PathText {
        /// The path.
        path: PathBuf,
    },
    /// The spec cannot be put into JSON.
    #[error("encoding the CDI spec of grant {grant}")]
    Encode {
        /// The grant.
        grant: GrantId,
        /// Why.
        source: serde_json::Error,
    },
    /// A file operation in the CDI directory.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What to make of a device node whose host path is a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainFiles {
    /// An error: on a real node it is one.
    Refused,
    /// Bind-mounted at the node's place: a simulated node that could not make device files has empty files instead.
    Mounted,
}

/// Writes and removes the specs of grants.
#[derive(Debug, Clone)]
pub struct CdiWriter {
    dir: PathBuf,
    vendor: String,
    class: String,
    plain_files: PlainFiles,
}

impl CdiWriter {
    /// For specs of `vendor/class` in `dir`, which is made when the first spec is written.
    ///
    /// # Errors
    /// When vendor or class break CDI's grammar.
    pub fn new(
        dir: impl Into<PathBuf>,
        vendor: &str,
        class: &str,
        plain_files: PlainFiles,
    ) -> Result<Self, CdiError> {
        for (what, text) in [("vendor", vendor), ("class", class)] {
            if !spec::is_kind_part(text) {
                return Err(CdiError::Name {
                    what,
                    text: text.to_owned(),
                });
            }
        }
        Ok(Self {
            dir: dir.into(),
            vendor: vendor.to_owned(),
            class: class.to_owned(),
            plain_files,
        })
    }

    /// The fully qualified name of a grant's device, written or not.
    #[must_use]
    pub fn qualified_name(&self, grant: &GrantId) -> String {
        format!("{}/{}={grant}", self.vendor, self.class)
    }

    /// Writes the spec of a grant, in place of an earlier one. Environment, device nodes and mounts of `edits` go into
    /// it; its CDI names and annotations belong elsewhere. Gives the device's fully qualified name.
    ///
    /// # Errors
    /// When a device node or mount source is not there, or the file cannot be written; an earlier spec is as it was.
    pub fn write(&self, grant: &GrantId, edits: &ContainerEdits) -> Result<String, CdiError> {
        let spec = Spec::new(
            format!("{}/{}", self.vendor, self.class),
            grant,
            edits,
            self.plain_files,
        )?;
        let json = serde_json::to_vec(&spec).map_err(|source| CdiError::Encode {
            grant: grant.clone(),
            source,
        })?;
        let path = self.path(grant);
        let temporary = self.temporary(grant);
        fs::create_dir_all(&self.dir).map_err(failed("creating", &self.dir))?;
        fs::write(&temporary, json).map_err(failed("writing", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("renaming to", &path))?;
        Ok(self.qualified_name(grant))
    }

    /// Has the grant a spec?
    #[must_use]
    pub fn exists(&self, grant: &GrantId) -> bool {
        self.path(grant).is_file()
    }

    /// Removes the spec of a grant; says whether there was one.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, grant: &GrantId) -> Result<bool, CdiError> {
        remove_file(&self.temporary(grant))?;
        remove_file(&self.path(grant))
    }

    /// Grants that have a spec.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn list(&self) -> Result<Vec<GrantId>, CdiError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("listing", &self.dir)(source)),
        };
        let mut grants = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("listing", &self.dir))?;
            if let Some(grant) = entry.file_name().to_str().and_then(|name| self.grant(name)) {
                grants.push(grant);
            }
        }
        grants.sort();
        Ok(grants)
    }

    fn path(&self, grant: &GrantId) -> PathBuf {
        self.dir.join(format!("{}{grant}.json", self.prefix()))
    }

    fn temporary(&self, grant: &GrantId) -> PathBuf {
        self.dir.join(format!(".{}{grant}.new", self.prefix()))
    }

    fn prefix(&self) -> String {
        format!("{}-{}_", self.vendor, self.class)
    }

    /// The grant whose file has that name, if it is a name of ours.
    fn grant(&self, file_name: &str) -> Option<GrantId> {
        let text = file_name
            .strip_prefix(&self.prefix())?
            .strip_suffix(".json")?;
        text.parse().ok()
    }
}

fn remove_file(path: &Path) -> Result<bool, CdiError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed("removing", path)(source)),
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> CdiError + 'a {
    move |source| CdiError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
