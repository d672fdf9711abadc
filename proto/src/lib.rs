//! Kubernetes wire formats: the kubelet's device-plugin API v1beta1 and PodResources API v1, and the two calls of the
//! container runtime interface that tell whether a node has CDI.
//!
//! Types, clients and servers only, no logic. `src/gen` is generated from the `.proto` files under `k8s/`,
//! which are this project's own text of the upstream formats, and is checked in so that a build needs no
//! protobuf compiler. `tests/regenerate.rs` writes it again (`UPDATE=1`) or fails when it drifted.
#![forbid(unsafe_code)]

/// The kubelet's device-plugin API.
pub mod deviceplugin {
    /// Version `v1beta1`, the only one that kubelets speak.
    #[allow(
        missing_docs,
        missing_debug_implementations,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod v1beta1 {
        include!("gen/v1beta1.rs");
    }

    /// The `version` of a `RegisterRequest`.
    pub const VERSION: &str = "v1beta1";
    /// The health of a device that may be given out; the kubelet takes any other text for unhealthy.
    pub const HEALTHY: &str = "Healthy";
    /// The health of a device that may not be given out.
    pub const UNHEALTHY: &str = "Unhealthy";
    /// Name of the kubelet's registration socket in its device-plugins directory.
    pub const KUBELET_SOCKET: &str = "kubelet.sock";
}

/// The kubelet's PodResources API.
pub mod podresources {
    /// Version `v1`.
    #[allow(
        missing_docs,
        missing_debug_implementations,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("gen/v1.rs");
    }
}

/// Two calls of the container runtime interface.
pub mod cri {
    /// Version `v1`.
    #[allow(
        missing_docs,
        missing_debug_implementations,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("gen/runtime.v1.rs");
    }
}
