//! One daemon per node: an exclusive `flock` on a file in the run directory.
//!
//! The kernel drops the lock when its holder dies, however it dies, so there are no stale locks and the file stays.
//! The holder's pid is written into it for messages only; nothing is decided by it. The lock is advisory and does
//! not reach across machines: the file must lie on a local file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
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
        let mut file = OpenOptions::new()
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
    fn waiting_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _lock = NodeLock::try_acquire(&path).unwrap();
        let second = NodeLock::acquire(&path, Duration::from_millis(20), SHORT, |_| {});
        assert!(matches!(second, Err(NodeLockError::Held { .. })));
    }
}
