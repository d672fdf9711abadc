//! What the reconciler is told and asked. One task owns the node's state; everything else sends it one of these.

use gpushared_device_plugin::Refusal;
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::foreign_id::Holdings;
use gpushared_domain::health::Probe;
use gpushared_domain::ids::GpuUuid;
use gpushared_domain::inventory::Inventory;
use gpushared_domain::resource::ResourceName;
use gpushared_domain::status::NodeStatus;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::driver_thread::DriverCallError;

/// A message to the reconciler.
#[derive(Debug)]
pub enum Message {
    /// front end: give these to a container.
    Allocate {
        /// Under which resource.
        resource: ResourceName,
        /// What.
        ids: Vec<PluginDeviceId>,
        /// The answer.
        reply: oneshot::Sender<Result<ContainerEdits, Refusal>>,
    },
    /// front end: choose among these.
    Prefer {
        /// Free devices.
        available: Vec<PluginDeviceId>,
        /// Those that must be chosen.
        must_include: Vec<PluginDeviceId>,
        /// How many.
        size: usize,
        /// The choice.
        reply: oneshot::Sender<Vec<PluginDeviceId>>,
    },
    /// front end: may a container start with these?
    PreStart {
        /// What.
        ids: Vec<PluginDeviceId>,
        /// Yes, or why not yet.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// hardware watch: a look at everything.
    Observed(Result<Inventory, DriverCallError>),
    /// hardware watch: a look at one GPU.
    Probed {
        /// Which.
        gpu: GpuUuid,
        /// What it said.
        probe: Result<Probe, DriverCallError>,
    },
    /// pod watch: a complete answer of PodResources.
    InUse(Holdings),
    /// admin: everything, for people.
    Status(oneshot::Sender<NodeStatus>),
    /// admin: this GPU is well; how many conditions did that end?
    ClearHealth {
        /// Which.
        gpu: GpuUuid,
        /// How many.
        reply: oneshot::Sender<usize>,
    },
    /// runtime watch: what `auto` means on this node, now that it is known whether the runtime has CDI.
    RuntimeAnswered {
        /// Whether it has.
        has_cdi: bool,
    },
    /// signal: settings that may change while running.
    Reload(Box<Config>),
}
