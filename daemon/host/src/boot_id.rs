//! Which boot this is: the kernel's random boot id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The boot id could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error("reading the boot id from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is empty.
    #[error("{} holds no boot id", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The boot id below `proc_root` (`/proc`, or the `proc` of a simulated node).
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read(proc_root: &Path) -> Result<String, BootIdError> {
    let path = proc_root.join("sys/kernel/random/boot_id");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(BootIdError::Read { path, source }),
    };
    match text.trim() {
        "" => Err(BootIdError::Empty { path }),
        id => Ok(id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_one_and_it_stays_the_same() {
        let id = read(Path::new("/proc")).unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(read(Path::new("/proc")).unwrap(), id);
    }

    #[test]
    fn a_missing_or_empty_file_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/kernel/random");
        let error = read(root.path()).unwrap_err();
        assert!(error.to_string().contains("boot_id"), "{error}");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("boot_id"), "\n").unwrap();
        assert!(matches!(read(root.path()), Err(BootIdError::Empty { .. })));
    }
}
