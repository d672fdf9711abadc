//! What outlives the process: leases, grants, health, resource names; recorded before each effect.
//!
//! A record costs a write and a rename and survives `kill -9`; a thread of its own makes it safe from power loss
//! right after (the journal's module docs say what may be lost in between and why that is harmless).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::mpsc;

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::health::HealthBook;
use gpushared_domain::lease::{GrantId, LeaseTable};
use gpushared_domain::node::Node;
use gpushared_domain::resource::ResourceName;
use gpushared_host::journal::{Journal, JournalError, JournalFault, JournalSync};
use serde::{Deserialize, Serialize};

use crate::telemetry::Chain;

const FILE_NAME: &str = "journal";
const DOCUMENT_VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    leases: LeaseTable,
    health: HealthBook,
    grants: BTreeMap<GrantId, Vec<PluginDeviceId>>,
    resources: BTreeSet<ResourceName>,
    /// Beside `grants` and not in them, so that an older version reads them too. A journal that does not say counts
    /// every grant as answered by CDI: a file too many hurts nobody.
    #[serde(default)]
    without_cdi: BTreeSet<GrantId>,
    #[serde(default)]
    runtime_has_cdi: Option<bool>,
}

/// What an earlier life left.
#[derive(Debug)]
pub struct Recovered {
    /// Who held what.
    pub leases: LeaseTable,
    /// What was wrong.
    pub health: HealthBook,
    /// Every resource name ever registered.
    pub resources: BTreeSet<ResourceName>,
    /// There was no journal: first start, or all of it was damaged.
    pub is_empty: bool,
    /// Damage that was found and moved aside.
    pub fault: Option<JournalFault>,
}

/// The writing side.
#[derive(Debug)]
pub struct Durable {
    journal: Journal<Document>,
    sync: JournalSync,
    /// reconciler --wishes--> journal thread
    sync_tx: mpsc::SyncSender<()>,
    epoch: u64,
    sequence: u64,
    /// Standing grants and their places.
    pub grants: BTreeMap<GrantId, Vec<PluginDeviceId>>,
    /// Grants whose stored answer names no CDI device.
    pub without_cdi: BTreeSet<GrantId>,
    /// What the container runtime said last, for the strategy `auto`.
    pub runtime_has_cdi: Option<bool>,
}

/// A number that no other start of any daemon drew: the standard library's hash keys come from the system's
/// random source.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Durable {
    /// Opens the journal, its quick copy in the run directory and its durable one in the state directory, and starts
    /// its thread.
    ///
    /// # Errors
    /// When a newer version wrote it, or the directory cannot be used.
    pub fn open(
        run_dir: &Path,
        state_dir: &Path,
        now: u64,
    ) -> Result<(Self, Recovered), JournalError> {
        let (quick, durable) = (run_dir.join(FILE_NAME), state_dir.join(FILE_NAME));
        let (journal, loaded) = Journal::<Document>::open(quick, durable, DOCUMENT_VERSION, now)?;
        let sync = journal.sync_side();
        // one wish is enough: a sync takes the latest record
        let (sync_tx, sync_rx) = mpsc::sync_channel(1);
        let thread_side = sync.clone();
        let spawned = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || sync_on_demand(&sync_rx, &thread_side));
        if let Err(error) = spawned {
            // records still survive the process; only power loss is not covered, and that is said
            tracing::error!(%error, "No thread for the journal: power loss may cost recent leases");
        }
        let is_empty = loaded.state.is_none();
        let document = loaded.state.unwrap_or_default();
        let durable = Self {
            journal,
            sync,
            sync_tx,
            epoch: random(),
            sequence: 0,
            grants: document.grants,
            without_cdi: document.without_cdi,
            runtime_has_cdi: document.runtime_has_cdi,
        };
        let recovered = Recovered {
            leases: document.leases,
            health: document.health,
            resources: document.resources,
            is_empty,
            fault: loaded.fault,
        };
        Ok((durable, recovered))
    }

    /// An id that was never used and never will be.
    pub fn next_grant(&mut self) -> GrantId {
        self.sequence += 1;
        GrantId::new(self.epoch, self.sequence)
    }

    /// Records everything as it is now. What follows from it may be done when this returns.
    ///
    /// # Errors
    /// When it cannot be written; what follows from it must not be done.
    pub fn record(&mut self, node: &Node) -> Result<(), JournalError> {
        self.without_cdi
            .retain(|grant| self.grants.contains_key(grant));
        self.journal.record(&Document {
            leases: node.leases.clone(),
            health: node.health.clone(),
            grants: self.grants.clone(),
            resources: node.resources().clone(),
            without_cdi: self.without_cdi.clone(),
            runtime_has_cdi: self.runtime_has_cdi,
        })?;
        // fails when a wish is waiting already, or without a thread, which was said when it could not be started
        self.sync_tx.try_send(()).ok();
        Ok(())
    }

    /// Makes everything recorded safe from power loss; blocks.
    pub fn sync(&self) {
        if let Err(error) = self.sync.sync() {
            tracing::error!(error = %Chain(&error), "The journal is not safe from power loss");
        }
    }
}

fn sync_on_demand(sync_rx: &mpsc::Receiver<()>, journal: &JournalSync) {
    let mut failing = false;
    while sync_rx.recv().is_ok() {
        while sync_rx.try_recv().is_ok() {}
        match journal.sync() {
            Ok(_) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::error!(error = %Chain(&error), "The journal is not safe from power loss");
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
