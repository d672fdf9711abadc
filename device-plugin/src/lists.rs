//! What is listed: the daemon publishes it, `ListAndWatch` sends it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::resource::ResourceName;

/// More devices than this are not listed for one resource.
///
/// The kubelet takes messages of up to 4 MiB and ends the stream over a larger one. A device takes at most 160
/// bytes on the wire (ID ≤ 128, health ≤ 9, topology ≤ 14, framing), so this many stay below 2.6 MB.
pub const MAX_DEVICES_PER_RESOURCE: usize = 16_384;

/// One device as the kubelet is to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// Unique over all resources of the node.
    pub id: PluginDeviceId,
    /// May be given out.
    pub healthy: bool,
    /// NUMA node of its GPU, where the machine has more than one and says which.
    pub numa_node: Option<u32>,
}

/// Everything that is listed, by resource.
///
/// While the process lives a resource never disappears and its list never loses an ID: a vanished ID that is held
/// crashes kubelet 1.36. The front end keeps that promise even if a publisher breaks it (`roster.rs`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// Grows with every publication.
    pub generation: u64,
    /// Grows with every wish that lists are sent again though nothing changed in them: for each message that comes
    /// in the kubelet writes its checkpoint, which is how its record of who holds what can be had fresh.
    pub repeat: u64,
    /// The list of each resource; an empty one is registered too and shows a capacity of 0.
    pub resources: BTreeMap<ResourceName, Vec<ListedDevice>>,
}

/// from --daemon--> to every resource
pub type DeviceListsRx = tokio::sync::watch::Receiver<Arc<DeviceLists>>;
