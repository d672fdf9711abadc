//! What the front end asks of the daemon, and how the daemon says no.

use std::future::Future;

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::resource::ResourceName;

/// The daemon, as the front end sees it.
///
/// Every call runs under the front end's own deadline, because the kubelet has none for Allocate and a hung
/// plugin stops every admission on the node. When the deadline ends, or the kubelet goes away, the future is
/// **dropped**: an implementation must not lose anything by that. What it reserved and nobody heard of is found
/// by reconciliation, as is what a rejected pod was given.
///
/// A call must not block its thread; a panic is answered as [`RefusalKind::Internal`] where panics unwind.
pub trait SliceAllocator: Send + Sync + 'static {
    /// Gives all of `ids` to one container, or none of them.
    ///
    /// `ids` is sorted, free of duplicates, not empty, and every ID is listed for `resource`; it may be listed as
    /// unhealthy. The same IDs may come again for another pod without any word that the first is gone. Publish the
    /// lists that follow from it **before** answering: they are then sent at once, and the kubelet does not give an
    /// overlapping place to the next pod.
    fn allocate(
        &self,
        resource: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> impl Future<Output = Result<ContainerEdits, Refusal>> + Send;

    /// Chooses `size` of `available`, `must_include` among them.
    ///
    /// `size` is smaller than the count of `available` and larger than that of `must_include`. A hint: the kubelet
    /// may allocate others. A refusal is never passed on, since it would fail the pod; the front end then chooses
    /// in the order of the IDs.
    fn prefer(
        &self,
        resource: &ResourceName,
        available: Vec<PluginDeviceId>,
        must_include: Vec<PluginDeviceId>,
        size: usize,
    ) -> impl Future<Output = Result<Vec<PluginDeviceId>, Refusal>> + Send;

    /// Returns when the slices of `ids` are ready for a container to start. The kubelet tries again after a refusal.
    fn pre_start(
        &self,
        resource: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Why a request was not granted. The message ends up in the pod's status: it is read by the person whose pod it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// What happened and what the reader can do, as a sentence without a full stop.
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// Kinds of refusal; `status.rs` gives each its gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Not an ID of ours, or not one of this resource.
    UnknownDevice,
    /// The device cannot be given out at present.
    Unhealthy,
    /// The configuration no longer offers it.
    NotOffered,
    /// It overlaps something that is taken, or the IDs do not go together.
    Conflict,
    /// Not built yet, or the daemon is still starting.
    NotReady,
    /// It took longer than it may.
    Timeout,
    /// A fault of ours.
    Internal,
}
