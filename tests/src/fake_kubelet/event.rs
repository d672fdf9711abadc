//! What the fake kubelet saw, and what it holds against a plugin.

use std::fmt;

/// Something that happened, in order. Tests look at these after the fact; nothing is ever removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A plugin registered and was dialled back.
    Registered {
        /// The resource.
        resource: String,
        /// The socket, relative to the device-plugins directory.
        endpoint: String,
    },
    /// A registration was refused with this text.
    RegistrationRefused {
        /// The resource as the plugin gave it.
        resource: String,
        /// The error that the plugin got.
        message: String,
    },
    /// A complete device list arrived: ID and health, in the order of the message.
    Listed {
        /// The resource.
        resource: String,
        /// What the message held.
        devices: Vec<(String, String)>,
    },
    /// A `ListAndWatch` stream ended.
    StreamEnded {
        /// The resource.
        resource: String,
        /// The error as the kubelet logs it.
        reason: String,
    },
    /// The current client of a resource was dropped; its devices are unhealthy now.
    Disconnected {
        /// The resource.
        resource: String,
        /// Whether the stream that ended was another, older one (upstream's duplicate-registration fault).
        poisoned: bool,
    },
    /// A call to a plugin ended.
    Called {
        /// Which one.
        rpc: Rpc,
        /// The resource.
        resource: String,
        /// The device IDs of the request, in its order.
        devices: Vec<String>,
        /// The error as the kubelet prints it.
        error: Option<String>,
    },
    /// Two resources of one container disagree; the first one's value stays.
    Conflict {
        /// Environment variable, mount, device or annotation.
        kind: &'static str,
        /// Its name or path in the container.
        key: String,
    },
    /// The health of devices changed and these pods are told (a channel of 100 upstream).
    HealthUpdate {
        /// UID of a pod that holds such a device.
        pod: String,
    },
    /// A pod was rejected for good.
    PodRejected {
        /// Namespace and name.
        pod: String,
        /// The reason in its status.
        reason: String,
        /// The message in its status.
        message: String,
    },
}

/// Calls of the device-plugin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    /// `GetPreferredAllocation`.
    GetPreferredAllocation,
    /// `Allocate`.
    Allocate,
    /// `PreStartContainer`.
    PreStartContainer,
}

/// A fault of a plugin that hurts a real node. A kubelet that holds one makes its test fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A device was allocated and a list came without it.
    VanishedWhileAllocated {
        /// The resource.
        resource: String,
        /// The device.
        device: String,
        /// Who holds it.
        holder: String,
    },
    /// A device was in a pending `Allocate` and a list came without it.
    VanishedInFlight {
        /// The resource.
        resource: String,
        /// The device.
        device: String,
        /// For whom.
        holder: String,
    },
    /// A pod that holds a vanished device was admitted again under a Topology Manager policy.
    CrashedInTopologyHints {
        /// The resource.
        resource: String,
        /// The device.
        device: String,
    },
    /// One device ID under two resources.
    SharedId {
        /// The device.
        device: String,
        /// The resource that had it.
        first: String,
        /// The resource that has it, too.
        second: String,
    },
    /// A list of more than 4 MiB.
    ListTooLong {
        /// The resource.
        resource: String,
        /// Encoded size, as far as the message told.
        text: String,
    },
    /// A call without a deadline did not return; a real kubelet admits no pod meanwhile.
    Hung {
        /// The resource.
        resource: String,
        /// The call.
        rpc: Rpc,
    },
    /// A CDI name stands for something else than it did before; runtimes cache specs.
    CdiNameReused {
        /// The qualified name.
        name: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VanishedWhileAllocated {
                resource,
                device,
                holder,
            } => write!(
                f,
                "{device} vanished from the list of {resource} while {holder} holds it: kubelet 1.36 \
                 panics at topology_hints.go:191 when that pod is admitted again under a topology policy"
            ),
            Self::VanishedInFlight {
                resource,
                device,
                holder,
            } => write!(
                f,
                "{device} vanished from the list of {resource} while its Allocate for {holder} was in \
                 flight: kubelet 1.36 panics at manager.go:923"
            ),
            Self::CrashedInTopologyHints { resource, device } => write!(
                f,
                "the kubelet crashed: hints for allocated {device} of {resource}, which is not listed any \
                 more (topology_hints.go:191)"
            ),
            Self::SharedId {
                device,
                first,
                second,
            } => write!(
                f,
                "{device} is listed by {first} and by {second}: health events reach the wrong pod"
            ),
            Self::ListTooLong { resource, text } => {
                write!(f, "the list of {resource} is over 4 MiB: {text}")
            }
            Self::Hung { resource, rpc } => write!(
                f,
                "{rpc:?} of {resource} did not return: a kubelet has no deadline and admits no pod meanwhile"
            ),
            Self::CdiNameReused { name } => {
                write!(
                    f,
                    "the CDI device {name} stands for other edits than before"
                )
            }
        }
    }
}
