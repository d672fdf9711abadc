//! What can go wrong between a process and the node directory.

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A system call on a file failed.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is no state file.
    #[error("{path} is not a state file of a simulated node", path = path.display())]
    BadMagic {
        /// The file.
        path: PathBuf,
    },
    /// The file was made by another version of the simulator.
    #[error("{path} has layout {found:#x}, this build has {expected:#x}: make the node again, or install the libraries again", path = path.display())]
    BadLayout {
        /// The file.
        path: PathBuf,
        /// Layout number in the file.
        found: u32,
        /// Layout number of this build.
        expected: u32,
    },
    /// The file is shorter or longer than its layout says.
    #[error("{path} has {found} bytes, not {expected}", path = path.display())]
    BadSize {
        /// The file.
        path: PathBuf,
        /// Size of the file.
        found: u64,
        /// Size that this build maps.
        expected: u64,
    },
    /// The lock was asked for by the thread that holds it, or is damaged.
    #[error("locking the state of the node")]
    Lock {
        /// What the lock answered.
        source: io::Error,
    },
}
