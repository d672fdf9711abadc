//! The host's driver files that a container needs: libraries of exactly the loaded driver's version, tools, firmware,
//! sockets.
//!
//! Every file goes to its host path without the driver root. A library is also mounted at its soname and at the other
//! names that the host has for it (`libcuda.so.1`, `libcuda.so`): the same file twice instead of a symlink, so that no
//! `createContainer` hook is needed. Compute libraries go into the default library folder of the other family of
//! distributions as well (`/usr/lib64` against `/usr/lib/<machine>-linux-gnu`): the container's loader searches its own
//! family's default folders without an entry in its cache, and its image need not be of the host's family. Neither
//! `ldconfig` nor `LD_LIBRARY_PATH` takes part. The alternative is NVIDIA's `nvidia-cdi-hook` (`create-symlinks`,
//! `update-ldcache`), which changes the container's cache and needs a binary on the host; [`DriverFiles::links`] has
//! what it would need.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpushared_domain::edits::BindMount;

const LIBCUDA: &str = "libcuda.so";
/// Libraries that compute needs, with the names that programs load them by (data: the sonames in the driver package).
const COMPUTE: [(&str, &[&str]); 13] = [
    (LIBCUDA, &["libcuda.so.1", LIBCUDA]),
    ("libcudadebugger.so", &["libcudadebugger.so.1"]),
    ("libnvidia-ml.so", &["libnvidia-ml.so.1"]),
    (
        "libnvidia-ptxjitcompiler.so",
        &["libnvidia-ptxjitcompiler.so.1"],
    ),
    ("libnvidia-nvvm.so", &["libnvidia-nvvm.so.4"]),
    ("libnvidia-nvvm70.so", &["libnvidia-nvvm70.so.4"]),
    ("libnvidia-gpucomp.so", &[]),
    ("libnvidia-cfg.so", &["libnvidia-cfg.so.1"]),
    ("libnvidia-opencl.so", &["libnvidia-opencl.so.1"]),
    ("libnvidia-allocator.so", &["libnvidia-allocator.so.1"]),
    ("libnvidia-pkcs11.so", &[]),
    ("libnvidia-pkcs11-openssl3.so", &[]),
    (
        "libnvidia-sandboxutils.so",
        &["libnvidia-sandboxutils.so.1"],
    ),
];
const TOOLS: [&str; 5] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
];
const SOCKETS: [&str; 2] = [
    "run/nvidia-persistenced/socket",
    "run/nvidia-fabricmanager/socket",
];

/// The driver's files could not be found.
#[derive(Debug, thiserror::Error)]
pub enum DriverFilesError {
    /// The library that every CUDA program needs is not there.
    #[error(
        "no libcuda.so.{version} in any library folder under {}; is the driver's user-space part installed, and is the driver root right?",
        driver_root.display()
    )]
    NoLibcuda {
        /// Where it was looked for.
        driver_root: PathBuf,
        /// The driver's version.
        version: String,
    },
    /// A folder is there and cannot be read.
    #[error("listing {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Another name of a library file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryLink {
    /// The name in the container.
    pub link: PathBuf,
    /// The file in the container that it stands for.
    pub target: PathBuf,
}

/// The host's driver files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFiles {
    /// Mounts, each container path once, in order of container paths; all read-only.
    pub mounts: Vec<BindMount>,
    /// `libcuda.so.<version>` on the host.
    pub libcuda: PathBuf,
    /// Names that could be symlinks instead of mounts.
    pub links: Vec<LibraryLink>,
}

impl DriverFiles {
    /// Looks under `driver_root`: `/`, the root of a driver container, or a simulated node's folder. A file is taken
    /// from the first library folder that has it.
    ///
    /// # Errors
    /// When there is no `libcuda.so.<version>`, or a folder cannot be read.
    pub fn find(driver_root: &Path, version: &str) -> Result<Self, DriverFilesError> {
        let mut search = Search {
            root: driver_root,
            version,
            mounts: BTreeMap::new(),
            libraries: BTreeSet::new(),
            links: Vec::new(),
            libcuda: None,
        };
        search.libraries()?;
        let Some(libcuda) = search.libcuda.take() else {
            return Err(DriverFilesError::NoLibcuda {
                driver_root: driver_root.to_owned(),
                version: version.to_owned(),
            });
        };
        search.add_present(TOOLS.map(|tool| format!("usr/bin/{tool}")));
        search.add_present(SOCKETS.map(str::to_owned));
        let firmware = ["lib/firmware", "usr/lib/firmware"];
        search.add_present(firmware.map(|folder| format!("{folder}/nvidia/{version}")));
        Ok(Self {
            mounts: search
                .mounts
                .into_iter()
                .map(|(container_path, host_path)| BindMount {
                    container_path,
                    host_path,
                    read_only: true,
                })
                .collect(),
            libcuda,
            links: search.links,
        })
    }
}

struct Search<'a> {
    root: &'a Path,
    version: &'a str,
    mounts: BTreeMap<PathBuf, PathBuf>,
    libraries: BTreeSet<String>,
    links: Vec<LibraryLink>,
    libcuda: Option<PathBuf>,
}

impl Search<'_> {
    fn libraries(&mut self) -> Result<(), DriverFilesError> {
        let triplet = format!("{ARCH}-linux-gnu");
        let folders = [
            "usr/lib64".to_owned(),
            format!("usr/lib/{triplet}"),
            "lib64".to_owned(),
            format!("lib/{triplet}"),
            "usr/lib".to_owned(),
            "lib".to_owned(),
        ];
        // `lib64` and `usr/lib64` are one folder on most hosts.
        let mut seen = BTreeSet::new();
        for folder in folders {
            let path = self.root.join(&folder);
            let Ok(real) = path.canonicalize() else {
                continue;
            };
            if seen.insert(real) {
                self.folder(&folder, &path)?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, folder: &str, path: &Path) -> Result<(), DriverFilesError> {
        let failed = |source| DriverFilesError::List {
            path: path.to_owned(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        let suffix = format!(".{}", self.version);
        for name in &names {
            let Some(stem) = name.strip_suffix(&suffix) else {
                continue;
            };
            let file = path.join(name);
            if stem.ends_with(".so") && file.is_file() && self.libraries.insert(name.clone()) {
                let others = other_names(stem, name, &names, path);
                self.library(folder, stem, &file, &others);
            }
        }
        Ok(())
    }

    fn library(&mut self, folder: &str, stem: &str, file: &Path, others: &BTreeSet<String>) {
        let name = format!("{stem}.{}", self.version);
        let own = Path::new("/").join(folder);
        let mut folders = vec![own.clone()];
        if compute_names(stem).is_some() {
            folders.extend(other_family(folder));
        }
        for place in folders {
            for other in others {
                self.mounts
                    .entry(place.join(other))
                    .or_insert_with(|| file.to_owned());
                if place == own {
                    self.links.push(LibraryLink {
                        link: place.join(other),
                        target: place.join(&name),
                    });
                }
            }
            self.mounts
                .entry(place.join(&name))
                .or_insert_with(|| file.to_owned());
        }
        if stem == LIBCUDA {
            self.libcuda = Some(file.to_owned());
        }
    }

    fn add_present<const N: usize>(&mut self, paths: [String; N]) {
        let mut seen = BTreeSet::new();
        for path in paths {
            let host = self.root.join(&path);
            if let Ok(real) = host.canonicalize()
                && seen.insert(real)
            {
                self.mounts.insert(Path::new("/").join(path), host);
            }
        }
    }
}

fn compute_names(stem: &str) -> Option<&'static [&'static str]> {
    COMPUTE
        .iter()
        .find(|(library, _)| *library == stem)
        .map(|(_, names)| *names)
}

/// The known sonames of a library, and every other name in its folder that leads to it.
fn other_names(stem: &str, name: &str, names: &[String], folder: &Path) -> BTreeSet<String> {
    let mut others: BTreeSet<String> = compute_names(stem)
        .unwrap_or_default()
        .iter()
        .map(|&known| known.to_owned())
        .collect();
    let file = folder.join(name).canonicalize().ok();
    for other in names {
        if other != name
            && other.starts_with(stem)
            && file.is_some()
            && folder.join(other).canonicalize().ok() == file
        {
            others.insert(other.clone());
        }
    }
    others
}

/// The default library folder of the distributions that do not use `folder`.
fn other_family(folder: &str) -> Option<PathBuf> {
    let debian = format!("/usr/lib/{ARCH}-linux-gnu");
    match folder {
        "usr/lib64" | "lib64" => Some(PathBuf::from(debian)),
        _ if folder.ends_with("-linux-gnu") => Some(PathBuf::from("/usr/lib64")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
