//! Between the model's types and the domain's.

use gpushared_domain::health::Probe;
use gpushared_domain::ids::{
    ComputeInstanceId, GpuIndex, GpuInstanceId, GpuMinor, GpuUuid, HostPid, MigUuid, PciAddress,
};
use gpushared_domain::inventory::{DriverInfo, GpuFacts, GpuState};
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigMode, MigModeActivation, MigProfile, MigProfileId, Placement,
};
use gpushared_domain::ports::{DriverFault, GpuDriverError, GpuEvent, GpuEventKind, GpuProcess};

use crate::client::Client;
use crate::code::{Code, Result};
use crate::event::{self, Event};
use crate::gpu_model::GiProfile;
use crate::ids::{self, GpuSlot, MigDevice, NO_INSTANCE};
use crate::node::Node;

pub(super) fn fault(code: Code) -> DriverFault {
    match code {
        Code::DRIVER_NOT_LOADED => DriverFault::DriverNotLoaded,
        Code::LIB_RM_VERSION_MISMATCH => DriverFault::VersionMismatch,
        Code::FUNCTION_NOT_FOUND => DriverFault::FunctionMissing,
        Code::LIBRARY_NOT_FOUND => DriverFault::LibraryMissing,
        Code::NOT_SUPPORTED => DriverFault::NotSupported,
        Code::NO_PERMISSION => DriverFault::NoPermission,
        Code::INVALID_ARGUMENT => DriverFault::InvalidArgument,
        Code::NOT_FOUND => DriverFault::NotFound,
        Code::IN_USE => DriverFault::InUse,
        Code::INSUFFICIENT_RESOURCES => DriverFault::InsufficientResources,
        Code::GPU_IS_LOST => DriverFault::GpuLost,
        Code::RESET_REQUIRED => DriverFault::ResetRequired,
        Code::TIMEOUT => DriverFault::Timeout,
        other => DriverFault::Other(other.get()),
    }
}

pub(super) fn probe_of(error: &GpuDriverError) -> Probe {
    match error.fault {
        DriverFault::GpuLost | DriverFault::NotFound => Probe::Lost,
        DriverFault::ResetRequired => Probe::ResetRequired,
        fault => Probe::Failed(fault.to_string()),
    }
}

pub(super) fn activation(status: Code) -> MigModeActivation {
    match status {
        Code::SUCCESS => MigModeActivation::Active,
        Code::RESET_REQUIRED => MigModeActivation::ResetRequired,
        Code::IN_USE => MigModeActivation::InUse,
        other => MigModeActivation::Outstanding(other.get()),
    }
}

/// Whether another compute-instance profile of the same size is worth a try after this answer.
pub(super) fn next_profile_may_do(fault: DriverFault) -> bool {
    matches!(
        fault,
        DriverFault::NotSupported
            | DriverFault::InvalidArgument
            | DriverFault::InsufficientResources
    )
}

pub(super) fn driver_info(node: &Node) -> DriverInfo {
    DriverInfo {
        driver_version: node.header.driver_version.as_str().to_owned(),
        nvml_version: node.header.nvml_version.as_str().to_owned(),
        cuda_version: node.header.cuda_version,
        simulated: true,
    }
}

pub(super) fn gpu_state(node: &Node, slot: GpuSlot) -> Result<GpuState> {
    let gpu = node.gpu(slot)?;
    let model = gpu.model()?;
    let pci = PciAddress::from_nvml(&gpu.pci_bus_id()).map_err(|_| Code::UNKNOWN)?;
    let facts = GpuFacts {
        uuid: uuid(&gpu.uuid())?,
        index: GpuIndex(node.index_of(slot)?),
        minor: GpuMinor(gpu.minor),
        name: model.name.to_owned(),
        pci,
        memory_bytes: node.memory(slot)?.total,
        compute_capability: model.compute_capability,
        numa_node: u32::try_from(gpu.numa_node).ok(),
    };
    let mode = match node.mig_mode(slot) {
        Err(Code::NOT_SUPPORTED) => MigMode::Unsupported,
        Err(code) => return Err(code),
        Ok(mode) if mode.current != mode.pending => MigMode::Pending {
            enabled: mode.pending != 0,
        },
        Ok(mode) if mode.current != 0 => MigMode::Enabled,
        Ok(_) => MigMode::Disabled,
    };
    let profiles = gpu.mig_model().map_or(&[][..], |mig| mig.gi_profiles);
    // In the order in which NVML enumerates them.
    let mut profiles: Vec<_> = profiles.iter().collect();
    profiles.sort_by_key(|profile| profile.nvml_enum);
    let instances = gpu.instances().map(|gi| gpu_instance(node, slot, gi));
    let mut instances = instances.collect::<Result<Vec<_>>>()?;
    instances.sort_by_key(|gi| gi.placement.start);
    Ok(GpuState {
        facts,
        mig_mode: mode,
        profiles: profiles.into_iter().map(profile).collect(),
        instances,
    })
}

fn uuid(text: &str) -> Result<GpuUuid> {
    text.parse().map_err(|_| Code::UNKNOWN)
}

fn placement(place: crate::Placement) -> Placement {
    Placement {
        start: place.start,
        size: place.size,
    }
}

fn profile(profile: &GiProfile) -> MigProfile {
    MigProfile {
        id: MigProfileId(profile.id),
        name: profile.name.to_owned(),
        compute_slices: profile.compute_slices,
        max_instances: profile.max_instances,
        memory_mib: profile.memory_mib,
        multiprocessors: profile.sm,
        placements: profile
            .placements
            .iter()
            .map(|&place| placement(place))
            .collect(),
    }
}

pub(super) fn gpu_instance(
    node: &Node,
    slot: GpuSlot,
    gi: &crate::GpuInstance,
) -> Result<GpuInstance> {
    let computes = gi.compute_instances().map(|ci| {
        compute_instance(
            node,
            MigDevice {
                gpu: slot,
                gi: gi.id(),
                ci: ci.id(),
            },
        )
    });
    Ok(GpuInstance {
        id: GpuInstanceId(gi.id),
        profile: MigProfileId(gi.profile_id),
        placement: placement(gi.placement()),
        compute_instances: computes.collect::<Result<_>>()?,
    })
}

pub(super) fn compute_instance(node: &Node, device: MigDevice) -> Result<ComputeInstance> {
    let ci = node.ci(device.gpu, device.gi, device.ci)?;
    let uuid: MigUuid = node.mig_uuid(device)?.parse().map_err(|_| Code::UNKNOWN)?;
    Ok(ComputeInstance {
        id: ComputeInstanceId(ci.id),
        profile: ci.profile_id,
        slices: ci.size,
        uuid,
    })
}

/// Ids of the compute-instance profiles that cover the whole GPU instance, most multiprocessors first.
pub(super) fn full_ci_profiles(
    node: &Node,
    slot: GpuSlot,
    gi: ids::GpuInstanceId,
) -> Result<Vec<u32>> {
    let profile = node.gi(slot, gi)?.profile(node.gpu(slot)?)?;
    let full = profile
        .ci_profiles
        .iter()
        .filter(|ci| ci.slices == profile.compute_slices);
    let mut full: Vec<_> = full.collect();
    full.sort_by_key(|ci| std::cmp::Reverse(ci.sm));
    Ok(full.into_iter().map(|ci| ci.id).collect())
}

/// A process and where it runs.
pub(super) fn place(client: &Client) -> (u32, Option<u32>, Option<u32>) {
    let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
    (client.pid, instance(client.gi), instance(client.ci))
}

pub(super) fn process(client: &Client) -> GpuProcess {
    let (pid, gi, ci) = place(client);
    GpuProcess {
        pid: HostPid(pid),
        used_memory: Some(client.used_bytes),
        gpu_instance: gi.map(GpuInstanceId),
        compute_instance: ci.map(ComputeInstanceId),
    }
}

/// The event in the port's words, `None` for kinds that the port does not have.
pub(super) fn event(node: &Node, event: &Event) -> Option<GpuEvent> {
    let kind = match event.kind {
        event::XID => GpuEventKind::Xid(event.data),
        event::SINGLE_BIT_ECC => GpuEventKind::SingleBitEcc,
        event::DOUBLE_BIT_ECC => GpuEventKind::DoubleBitEcc,
        event::MIG_CONFIG_CHANGE => GpuEventKind::MigConfigChange,
        _ => return None,
    };
    let gpu = node.gpu_any(GpuSlot::new(event.gpu)).ok()?;
    let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
    Some(GpuEvent {
        gpu: uuid(&gpu.uuid()).ok()?,
        gpu_instance: instance(event.gi).map(GpuInstanceId),
        compute_instance: instance(event.ci).map(ComputeInstanceId),
        kind,
    })
}
