//! [`SharedNode`]: one process's door to the node.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpushared_driver_sim::Node;

use crate::error::StateError;
use crate::lock::{self, Before};
use crate::mapping::Mapping;
use crate::process::client_is_alive;
use crate::{tree, wake};

/// Environment variable that names the node directory.
pub const NODE_VARIABLE: &str = "GPUSIM_NODE";

/// The state file in it.
const STATE: &str = "state";

/// A point in the node's history, for [`SharedNode::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(u32);

/// The node of a directory, mapped by this process.
///
/// Survives `fork`: the child has the same mapping, and the lock knows its owner by thread, not by what it
/// remembers.
#[derive(Debug)]
pub struct SharedNode {
    mapping: Mapping,
    dir: PathBuf,
}

impl SharedNode {
    /// Makes the node directory with this node: state file and tree. A state file that is there is replaced;
    /// processes that have it mapped keep the old one, and write the tree no more.
    ///
    /// # Errors
    /// [`StateError`]: a file cannot be written.
    pub fn create(dir: &Path, node: &Node) -> Result<Self, StateError> {
        std::fs::create_dir_all(dir).map_err(|source| StateError::Io {
            action: "creating",
            path: dir.to_owned(),
            source,
        })?;
        // Absolute, so that a later change of the working directory does not matter.
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let make = || Mapping::create(&dir.join(STATE), node);
        // Under the lock of a node that is there, so that nobody is in the middle of writing its tree.
        let over_old = match Self::open(&dir) {
            Ok(old) => old.locked(|_| make()).ok(),
            Err(_) => None,
        };
        let mapping = over_old.unwrap_or_else(make)?;
        let shared = Self { mapping, dir };
        shared.sync_tree()?;
        Ok(shared)
    }

    /// Maps the node of a directory.
    ///
    /// # Errors
    /// [`StateError`]: no state file, or one that this build cannot read.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mapping = Mapping::open(&dir.join(STATE))?;
        Ok(Self { mapping, dir })
    }

    /// The node directory of this process: [`NODE_VARIABLE`] if set, else the directory above the `lib` directory
    /// (or the driver root's library directory) that `library` lies in.
    pub fn locate(library: Option<&Path>) -> Option<PathBuf> {
        locate(env::var_os(NODE_VARIABLE).map(PathBuf::from), library)
    }

    /// The node directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the node to `f` under the lock, after removing clients whose process is gone. Afterwards, still under
    /// the lock, the tree follows the instances, and waiters are woken if the generation moved. `f` must not block
    /// and must not call back into this node.
    ///
    /// A panic in `f` goes on, after the node was repaired and the lock given back. A tree that cannot be written is
    /// tried again by the next call; [`Self::sync_tree`] answers why.
    ///
    /// # Errors
    /// [`StateError::Lock`]: this thread has the lock already, or it is damaged.
    pub fn with<T>(&self, f: impl FnOnce(&mut Node) -> T) -> Result<T, StateError> {
        self.locked(|node| {
            node.reap_clients(client_is_alive);
            f(node)
        })
    }

    /// As [`Self::with`] without looking for dead clients, which costs a few microseconds per client: for calls that
    /// do not depend on who is alive.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_unreaped<T>(&self, f: impl FnOnce(&mut Node) -> T) -> Result<T, StateError> {
        self.locked(f)
    }

    fn locked<T>(&self, f: impl FnOnce(&mut Node) -> T) -> Result<T, StateError> {
        let (guard, before) = lock::acquire(&self.mapping)?;
        // SAFETY: the lock is held until the end of this function, and every other access, in this process or
        // another, is made under it; the pointer is valid and aligned (`Mapping::map`), and Node is plain data, so
        // whatever a process that died in the middle wrote is a valid value. Nobody cuts the file short (Trust).
        let node = unsafe { &mut *self.mapping.node() };
        let generation = node.header.generation;
        if before == Before::Died {
            node.repair();
        }
        let answer = panic::catch_unwind(AssertUnwindSafe(|| f(node)));
        if answer.is_err() {
            node.repair();
        }
        if node.header.tree_generation != node.header.layout_generation {
            // The driver's own work is done; a tree that lags behind is tried again at the next call.
            let _retried = self.write_tree(node);
        }
        let moved = node.header.generation != generation;
        drop(guard);
        if moved {
            wake::wake_all(self.mapping.wake());
        }
        answer.map_err(|payload| panic::resume_unwind(payload))
    }

    /// Writes the tree now if it lags behind.
    ///
    /// # Errors
    /// [`StateError::Io`]: what could not be written.
    pub fn sync_tree(&self) -> Result<(), StateError> {
        self.locked(|node| self.write_tree(node))?
    }

    /// The tree belongs to the node whose state file lies in the directory: who has mapped one that was replaced leaves
    /// it alone.
    fn write_tree(&self, node: &mut Node) -> Result<(), StateError> {
        if self.mapping.is_at(&self.dir.join(STATE)) {
            return tree::sync(&self.dir, node);
        }
        node.header.tree_generation = node.header.layout_generation;
        Ok(())
    }

    /// Where the history of the node is now. Take it before reading, then wait for what comes after it.
    pub fn change(&self) -> Change {
        Change(self.mapping.wake().load(Ordering::Acquire))
    }

    /// Waits until something changed after `seen`, in whatever process, at most `timeout`; answers whether it did.
    pub fn wait(&self, seen: Change, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.change() != seen {
                return true;
            }
            let left = deadline.map_or(timeout, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            wake::wait(self.mapping.wake(), seen.0, left);
        }
    }
}

/// Real time as nanoseconds since 1970: what callers pass to [`Node::now`].
pub fn real_ns() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

fn locate(variable: Option<PathBuf>, library: Option<&Path>) -> Option<PathBuf> {
    if let Some(dir) = variable.filter(|dir| !dir.as_os_str().is_empty()) {
        return Some(dir);
    }
    let library = library?.canonicalize().ok()?;
    // `<node>/lib/libX.so.1`, `<node>/usr/lib/x86_64-linux-gnu/libX.so.1`
    library
        .ancestors()
        .skip(2)
        .take(3)
        .find(|dir| dir.join(STATE).is_file())
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests;
