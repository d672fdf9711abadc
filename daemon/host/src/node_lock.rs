//! One daemon per node: an exclusive `flock` on a file in the run directory.
//!
//! The kernel drops the lock when its holder dies, however it dies, so there are no stale locks and the file stays.
//! The holder's pid is written into it for messages only; nothing is decided by it. The lock is advisory and does
//! not reach across machines: the file must lie on a local file system. Who gets the lock of a file that was deleted
//! meanwhile takes that of the file that is there now; a file deleted under its holder cannot be told from outside, so
//! nothing may delete it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use gpushared_domain::ids::HostPid;

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum NodeLockError {
    /// Somebody else has it.
    #[error(
        "{} is held by {}",
        path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, where the file says so; in the holder's PID namespace.
        holder: Option<HostPid>,
    },
    /// The file cannot be made, opened, locked or written.
    #[error("locking {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held until it is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct NodeLock {
    _file: File,
}

impl NodeLock {
    /// Takes the lock if nobody has it. Makes the file and its folder.
    ///
    /// # Errors
    /// [`NodeLockError::Held`] when somebody has it.
    pub fn try_acquire(path: &Path) -> Result<Self, NodeLockError> {
        let failed = |source| NodeLockError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(NodeLockError::Held {
                        path: path.to_owned(),
                        holder: holder(path),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            if is_at(&file, path).map_err(failed)? {
                break file;
            }
        };
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", process::id()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Waits for the lock, at most for `patience`, looking again every `pause`. `on_wait` is called once, with the
    /// holder, before the first wait. Blocks its thread.
    ///
    /// # Errors
    /// [`NodeLockError::Held`] when somebody still has it after `patience`.
    pub fn acquire(
        path: &Path,
        patience: Duration,
        pause: Duration,
        on_wait: impl FnOnce(Option<HostPid>),
    ) -> Result<Self, NodeLockError> {
        let start = Instant::now();
        let mut on_wait = Some(on_wait);
        loop {
            match Self::try_acquire(path) {
                Err(NodeLockError::Held { holder, .. }) if start.elapsed() < patience => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait(holder);
                    }
                    thread::sleep(pause.min(patience.saturating_sub(start.elapsed())));
                }
                other => return other,
            }
        }
    }
}

/// Is the path still this file's? One that was deleted between the opening and the lock keeps nobody else out.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(path: &Path) -> Option<HostPid> {
    let text = fs::read_to_string(path).ok()?;
    text.trim().parse().ok().map(HostPid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/lock");
        let lock = NodeLock::try_acquire(&path).unwrap();
        let error = NodeLock::try_acquire(&path).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("process {}", process::id())),
            "{error}"
        );
        drop(lock);
        drop(NodeLock::try_acquire(&path).unwrap());
    }

    #[test]
    fn waiting_ends_when_the_holder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = NodeLock::try_acquire(&path).unwrap();
        let mut lock = Some(lock);
        let mut told = None;
        let patience = Duration::from_secs(30);
        let second = NodeLock::acquire(&path, patience, SHORT, |holder| {
            told = holder;
            lock = None;
        });
        second.map(drop).unwrap();
        assert_eq!(told, Some(HostPid(process::id())));
    }

    #[test]
    fn a_lock_of_a_file_that_was_deleted_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        let lock = NodeLock::try_acquire(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap(), "another file is there now");
        drop(lock);
    }

    #[test]
    fn waiting_ends_with_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut first = Some(NodeLock::try_acquire(&path).unwrap());
        let patience = Duration::from_secs(30);
        let second = NodeLock::acquire(&path, patience, SHORT, |_| {
            fs::remove_file(&path).unwrap();
            first = None;
        })
        .unwrap();
        let third = NodeLock::try_acquire(&path);
        assert!(matches!(third, Err(NodeLockError::Held { .. })));
        drop(second);
    }

    #[test]
    fn waiting_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _lock = NodeLock::try_acquire(&path).unwrap();
        let second = NodeLock::acquire(&path, Duration::from_millis(20), SHORT, |_| {});
        assert!(matches!(second, Err(NodeLockError::Held { .. })));
    }
}
