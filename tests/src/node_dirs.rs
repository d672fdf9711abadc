//! The directories of one node, in a temporary place that goes away with the value.
//!
//! The path is kept short on purpose: a socket path may have 107 bytes and the deepest socket of a
//! node lies four levels below this root.

use std::fs;
use std::path::{Path, PathBuf};

/// A node's roots. Everything that a daemon or kubelet touches lies below [`NodeDirs::root`].
#[derive(Debug)]
pub struct NodeDirs {
    root: tempfile::TempDir,
}

impl NodeDirs {
    /// Makes the directories.
    ///
    /// # Panics
    /// When the temporary directory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("gs")
            .rand_bytes(5)
            .tempdir();
        let dirs = Self {
            root: root.expect("a temporary directory can be made"),
        };
        for made in [
            dirs.kubelet(),
            dirs.cdi(),
            dirs.run(),
            dirs.lib(),
            dirs.etc(),
            dirs.dev(),
        ] {
            fs::create_dir_all(made).expect("directories can be made below a temporary one");
        }
        dirs
    }

    /// The node's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Stands for `/var/lib/kubelet`.
    #[must_use]
    pub fn kubelet(&self) -> PathBuf {
        self.root().join("kubelet")
    }

    /// Stands for `/var/run/cdi`; empty after a reboot.
    #[must_use]
    pub fn cdi(&self) -> PathBuf {
        self.root().join("cdi")
    }

    /// Stands for `/run/gpushared`; empty after a reboot.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root().join("run")
    }

    /// Stands for `/var/lib/gpushared`.
    #[must_use]
    pub fn lib(&self) -> PathBuf {
        self.root().join("lib")
    }

    /// Stands for `/etc/gpushared`.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.root().join("etc")
    }

    /// Stands for `/dev`.
    #[must_use]
    pub fn dev(&self) -> PathBuf {
        self.root().join("dev")
    }

    /// Empties what lies in memory on a real node and so does not survive a reboot.
    ///
    /// # Panics
    /// When a directory cannot be emptied.
    pub fn lose_volatile(&self) {
        for volatile in [self.cdi(), self.run()] {
            fs::remove_dir_all(&volatile).expect("a directory of ours can be removed");
            fs::create_dir_all(&volatile).expect("a directory of ours can be made again");
        }
    }
}

impl Default for NodeDirs {
    fn default() -> Self {
        Self::new()
    }
}
