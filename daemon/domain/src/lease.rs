//! Leases: who holds which place, from the kubelet's Allocate until nobody has it any more.
//!
//! ```text
//!            reserve                built                  seen
//!  (free) ──────────▶ Reserved ──▶ Building ──▶ Ready ──────────▶ InUse
//!                        │            │           │                 │ absent in two observations
//!                        │            │           │ and the grace   ▼ and the grace is over
//!                        ▼            ▼           ▼ is over
//!                     Failed(why)  (from any)  Releasing ──────▶ (free)
//! ```
//!
//! A place that exists already (a whole GPU, a MIG device that an operator made) is `Ready` as soon as it is
//! reserved. The kubelet never says that a pod is gone, so a lease ends by observation only: its place is in no
//! container of PodResources twice in a row and the lease is older than the grace (a pod that was just admitted is
//! not listed yet), and the kubelet's own record does not bind the place any more: PodResources leaves out ordinary init
//! containers, and all pods while a kubelet that was just started has not heard of them. The kubelet may also allocate a held place again without a word, since it knows better: the
//! lease then gets another grant and keeps the earlier ones, because an init container's stored answer may still
//! be replayed next to the app container's.
//!
//! Times are Unix seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device_id::PluginDeviceId;
use crate::ids::{ContainerRef, ParseIdError};
use crate::resource::ResourceName;

/// How many grants of one lease are kept. A pod has a handful of containers that can share a place in turn.
const GRANTS_KEPT: usize = 16;
/// Observations without the place before it is released.
const ABSENCES: u32 = 2;

/// One answer to Allocate: unique for ever, so that a name made from it never stands for other content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    /// From a random number drawn at the daemon's start and a counter since then.
    #[must_use]
    pub fn new(epoch: u64, sequence: u64) -> Self {
        Self(format!("{epoch:016x}-{sequence}"))
    }

    /// As it stands in names.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrantId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.split_once('-')
            .and_then(|(epoch, sequence)| {
                let grant = Self::new(u64::from_str_radix(epoch, 16).ok()?, sequence.parse().ok()?);
                (grant.0 == text).then_some(grant)
            })
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
                expected: "the id of a grant (16 hexadecimal digits, `-`, a number)",
            })
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// Journalled, nothing done yet.
    Reserved,
    /// Its place is being made.
    Building,
    /// A container may start with it.
    Ready,
    /// PodResources shows it with a container.
    InUse,
    /// Nobody has it any more; its place is being taken down.
    Releasing,
    /// It could not be made.
    Failed(String),
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved => f.write_str("reserved"),
            Self::Building => f.write_str("building"),
            Self::Ready => f.write_str("ready"),
            Self::InUse => f.write_str("in-use"),
            Self::Releasing => f.write_str("releasing"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// The binding of a place to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The place.
    pub id: PluginDeviceId,
    /// Under which resource it was asked for.
    pub resource: ResourceName,
    /// Where it stands.
    pub state: LeaseState,
    /// Answers given for it, oldest first.
    pub grants: Vec<GrantId>,
    /// Who has it, once seen.
    pub container: Option<ContainerRef>,
    /// When the last grant was given.
    pub granted_at: u64,
    /// Observations in a row that did not show it.
    absences: u32,
}

/// Why places cannot be reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The same place twice in one request.
    #[error("{id} is asked for twice")]
    Twice {
        /// The place.
        id: PluginDeviceId,
    },
    /// The place is being taken down.
    #[error("{id} is being released")]
    Releasing {
        /// The place.
        id: PluginDeviceId,
    },
}

/// All leases of the node, by place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTable {
    leases: BTreeMap<PluginDeviceId, Lease>,
}

impl LeaseTable {
    /// Reserves places that exist for one grant; all of them or none. They are `Ready` at once.
    ///
    /// # Errors
    /// When a place is named twice or is being released; the table is as it was.
    pub fn reserve(
        &mut self,
        now: u64,
        grant: &GrantId,
        resource: &ResourceName,
        ids: &[PluginDeviceId],
    ) -> Result<(), ReserveError> {
        for (position, id) in ids.iter().enumerate() {
            if ids[..position].contains(id) {
                return Err(ReserveError::Twice { id: id.clone() });
            }
            if self
                .leases
                .get(id)
                .is_some_and(|lease| lease.state == LeaseState::Releasing)
            {
                return Err(ReserveError::Releasing { id: id.clone() });
            }
        }
        for id in ids {
            let lease = self.leases.entry(id.clone()).or_insert_with(|| Lease {
                id: id.clone(),
                resource: resource.clone(),
                state: LeaseState::Ready,
                grants: Vec::new(),
                container: None,
                granted_at: now,
                absences: 0,
            });
            lease.resource = resource.clone();
            lease.state = LeaseState::Ready;
            lease.container = None;
            lease.granted_at = now;
            lease.absences = 0;
            lease.grants.push(grant.clone());
            if lease.grants.len() > GRANTS_KEPT {
                lease.grants.remove(0);
            }
        }
        Ok(())
    }

    /// A container holds the place and no lease says so (the journal was lost, or another version gave it out).
    /// Does nothing where a lease stands.
    pub fn adopt(
        &mut self,
        now: u64,
        id: &PluginDeviceId,
        resource: &ResourceName,
        container: &ContainerRef,
    ) {
        self.leases.entry(id.clone()).or_insert_with(|| Lease {
            id: id.clone(),
            resource: resource.clone(),
            state: LeaseState::InUse,
            grants: Vec::new(),
            container: Some(container.clone()),
            granted_at: now,
            absences: 0,
        });
    }

    /// The kubelet's own record binds the place to a pod and no lease says so. Does nothing where a lease stands.
    pub fn remember(&mut self, now: u64, id: &PluginDeviceId, resource: &ResourceName) {
        self.leases.entry(id.clone()).or_insert_with(|| Lease {
            id: id.clone(),
            resource: resource.clone(),
            state: LeaseState::Ready,
            grants: Vec::new(),
            container: None,
            granted_at: now,
            absences: 0,
        });
    }

    /// A grant that an earlier life gave for these places stands: the stored answer may be replayed.
    pub fn add_grant(&mut self, ids: &[PluginDeviceId], grant: &GrantId) {
        for id in ids {
            if let Some(lease) = self.leases.get_mut(id)
                && !lease.grants.contains(grant)
            {
                lease.grants.push(grant.clone());
            }
        }
    }

    /// One complete observation of who holds what. Returns the places whose leases are over: they are
    /// `Releasing` until [`Self::released`].
    ///
    /// `grace` is how long, in seconds, a fresh grant may be missing from PodResources. `is_bound` says whether the
    /// kubelet's own record binds a place to a pod; asked only about a lease that would end.
    pub fn observe(
        &mut self,
        now: u64,
        grace: u64,
        in_use: &BTreeMap<PluginDeviceId, ContainerRef>,
        is_bound: impl Fn(&PluginDeviceId) -> bool,
    ) -> Observed {
        let mut observed = Observed::default();
        for (id, lease) in &mut self.leases {
            if lease.state == LeaseState::Releasing {
                continue;
            }
            if let Some(container) = in_use.get(id) {
                lease.absences = 0;
                if lease.state != LeaseState::InUse || lease.container.as_ref() != Some(container) {
                    lease.state = LeaseState::InUse;
                    lease.container = Some(container.clone());
                    observed.changed.push(id.clone());
                }
                continue;
            }
            lease.absences = lease.absences.saturating_add(1);
            // a clock that was set back must not keep the lease until it has caught up
            lease.granted_at = lease.granted_at.min(now);
            if lease.absences < ABSENCES || now - lease.granted_at < grace {
                continue;
            }
            if is_bound(id) {
                observed.bound.push(id.clone());
            } else {
                lease.state = LeaseState::Releasing;
                observed.released.push(id.clone());
            }
        }
        observed
    }

    /// The place is taken down: the lease is gone. Gives it back for its grants.
    pub fn released(&mut self, id: &PluginDeviceId) -> Option<Lease> {
        self.leases.remove(id)
    }

    /// The lease on a place.
    #[must_use]
    pub fn get(&self, id: &PluginDeviceId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// Does any lease still carry that grant?
    #[must_use]
    pub fn holds_grant(&self, grant: &GrantId) -> bool {
        self.leases
            .values()
            .any(|lease| lease.grants.contains(grant))
    }
}

/// What an observation brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Places that are now with a container, or with another one.
    pub changed: Vec<PluginDeviceId>,
    /// Places whose leases are over.
    pub released: Vec<PluginDeviceId>,
    /// Places whose leases would be over if the kubelet's own record did not bind them.
    pub bound: Vec<PluginDeviceId>,
}

#[cfg(test)]
mod tests;
