//! The durable record: one document, written as a whole before each effect that it describes.
//!
//! # Two copies, two promises
//! - The quick copy is replaced by [`Journal::record`]: a new file beside it, then a rename, **no fsync**. The page cache
//!   outlives the process, so this survives `kill -9` at any instruction, and it costs a fraction of a millisecond:
//!   it is in Allocate's path. It belongs on a tmpfs (`/run`): on a disk it would wait for the other copy's fsync.
//! - The durable copy is written by [`JournalSync::sync`], with fsync before and after its rename, from a thread that
//!   may wait for the disk. It is a file of its own, not a link, so damage to one copy leaves the other.
//!
//! After a power cut the first copy may be old, empty or torn, which its checksum tells; the second is then what was
//! recorded up to the last sync. What is lost are the last moments before the cut: grants whose containers died with
//! the node. The kubelet's checkpoint still has our answers to them, PodResources says who holds what once pods run
//! again, and places are found again by observation, so nothing is given out twice for want of those moments.
//!
//! # Reading
//! A copy is taken only whole: magic line, version, length and checksum over everything. A damaged one is moved aside
//! to `<file>.corrupt-<unix time>` and the caller is told ([`Loaded::fault`]); of two good ones the later counts. A
//! copy that a newer version wrote is refused with nothing touched.

mod file;
mod format;

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use format::Damage;
use format::{Decoded, Document};

/// The journal could not be opened, written or synced.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer gpushared wrote it.
    #[error(
        "{} was written by a newer gpushared (format {format}, document version {document}); go back to that version, or move the file away to start with an empty journal",
        path.display()
    )]
    NewerVersion {
        /// The copy.
        path: PathBuf,
        /// Version of the file's format.
        format: u32,
        /// Version of the document in it.
        document: u32,
    },
    /// A file operation.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The document cannot be put into JSON.
    #[error("encoding the journal")]
    Encode(#[source] serde_json::Error),
}

/// A copy that could not be used.
#[derive(Debug)]
pub struct DamagedCopy {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
}

/// Damage that was found while loading.
#[derive(Debug)]
pub struct JournalFault {
    /// The copies that were moved aside, at least one.
    pub damaged: Vec<DamagedCopy>,
}

/// What the journal held.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The latest good copy; `None` when there is none (first start, or all copies damaged).
    pub state: Option<T>,
    /// Damage, worth a warning; with `state` an older or the other copy.
    pub fault: Option<JournalFault>,
}

/// The newest bytes and which of them are safe from power loss.
#[derive(Debug, Default)]
struct Shared {
    latest: Mutex<Option<(u64, Arc<[u8]>)>>,
    /// Sequence of the durable copy; held while that is written.
    durable: Mutex<u64>,
}

/// The writing side. One owner; [`Journal::sync_side`] gives the other side to another thread.
#[derive(Debug)]
pub struct Journal<T> {
    path: PathBuf,
    durable_path: PathBuf,
    document_version: u32,
    sequence: u64,
    shared: Arc<Shared>,
    document: PhantomData<fn(&T)>,
}

/// The side that makes durable; may block for as long as the disk does.
#[derive(Debug, Clone)]
pub struct JournalSync {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal with its quick and its durable copy, makes their folders and loads what is there. `document_version` is the caller's: a
    /// document with a higher one is refused, one with a lower one is decoded as it is (give new fields a default).
    /// `now` (Unix seconds) names damaged copies.
    ///
    /// # Errors
    /// When a newer version wrote it, or files cannot be read, moved or made.
    pub fn open(
        quick: impl Into<PathBuf>,
        durable: impl Into<PathBuf>,
        document_version: u32,
        now: u64,
    ) -> Result<(Self, Loaded<T>), JournalError> {
        let (path, durable_path) = (quick.into(), durable.into());
        for folder in [path.parent(), durable_path.parent()].into_iter().flatten() {
            file::create_folder(folder).map_err(failed("creating", folder))?;
        }
        let mut good: Vec<(Document<T>, Vec<u8>, bool)> = Vec::new();
        let mut bad = Vec::new();
        for (copy, is_durable) in [(path.clone(), false), (durable_path.clone(), true)] {
            let bytes = match file::read(&copy) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) => return Err(failed("reading", &copy)(error)),
            };
            match format::decode(&bytes, document_version) {
                Decoded::Good(document) => good.push((document, bytes, is_durable)),
                Decoded::Damaged(damage) => bad.push((copy, damage)),
                Decoded::Newer { format, document } => {
                    return Err(JournalError::NewerVersion {
                        path: copy,
                        format,
                        document,
                    });
                }
            }
        }
        let mut damaged = Vec::new();
        for (copy, damage) in bad {
            let moved_to = file::move_aside(&copy, now).map_err(failed("moving aside", &copy))?;
            damaged.push(DamagedCopy {
                path: copy,
                moved_to,
                damage,
            });
        }
        let durable = good
            .iter()
            .find(|copy| copy.2)
            .map_or(0, |copy| copy.0.sequence);
        good.sort_by_key(|copy| copy.0.sequence);
        let latest = good.pop();
        let sequence = latest.as_ref().map_or(0, |copy| copy.0.sequence);
        let (state, bytes) = latest
            .map(|(document, bytes, _)| (document.state, bytes))
            .unzip();
        let shared = Shared {
            latest: Mutex::new(bytes.map(|bytes| (sequence, bytes.into()))),
            durable: Mutex::new(durable),
        };
        let journal = Self {
            path,
            durable_path,
            document_version,
            sequence,
            shared: Arc::new(shared),
            document: PhantomData,
        };
        let fault = (!damaged.is_empty()).then_some(JournalFault { damaged });
        Ok((journal, Loaded { state, fault }))
    }

    /// Records the whole document. When this returns, it survives the death of the process.
    ///
    /// # Errors
    /// When it cannot be written: what was recorded before still stands, and the effect must not be made.
    pub fn record(&mut self, state: &T) -> Result<(), JournalError> {
        let sequence = self.sequence + 1;
        let bytes =
            format::encode(state, self.document_version, sequence).map_err(JournalError::Encode)?;
        let fresh = with_suffix(&self.path, ".new");
        file::write(&fresh, &bytes).map_err(failed("writing", &fresh))?;
        file::rename(&fresh, &self.path).map_err(failed("renaming to", &self.path))?;
        self.sequence = sequence;
        *lock(&self.shared.latest) = Some((sequence, bytes.into()));
        Ok(())
    }

    /// The side that makes durable.
    #[must_use]
    pub fn sync_side(&self) -> JournalSync {
        JournalSync {
            path: self.durable_path.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl JournalSync {
    /// Makes everything recorded so far safe from power loss; cheap when it is already. Says whether it wrote.
    ///
    /// # Errors
    /// When the disk refuses; the next call tries again.
    pub fn sync(&self) -> Result<bool, JournalError> {
        let mut durable = lock(&self.shared.durable);
        let latest = lock(&self.shared.latest).clone();
        let Some((sequence, bytes)) = latest.filter(|(sequence, _)| *sequence > *durable) else {
            return Ok(false);
        };
        let fresh = with_suffix(&self.path, ".new");
        file::write_through(&fresh, &bytes).map_err(failed("writing", &fresh))?;
        file::rename(&fresh, &self.path).map_err(failed("renaming to", &self.path))?;
        if let Some(folder) = self.path.parent() {
            file::sync_folder(folder).map_err(failed("syncing", folder))?;
        }
        *durable = sequence;
        Ok(true)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Each value is replaced in one step, so a panic elsewhere cannot leave it half changed.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> JournalError + 'a {
    move |source| JournalError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
