//! Whether a file is still the one it was.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

/// One file in the life of a file system.
///
/// An inode number alone does not do: it is used again at once on ext4 and tmpfs, so the time of birth belongs to it
/// (of modification where the file system keeps no birth; a socket's never changes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl FileIdentity {
    /// Of the socket at `path`; links are not followed.
    ///
    /// # Errors
    /// `NotFound`, whatever else `stat` says, and `InvalidInput` for what is there and no socket.
    pub(crate) fn of_socket(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a socket",
            ));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata.created().or_else(|_| metadata.modified()).ok(),
        })
    }

    /// Of a directory with its present entries: adding or removing one changes it.
    pub(crate) fn of_directory_entries(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata.modified().ok(),
        })
    }
}
