//! GPU instances: profiles, placements, create, destroy, list. All but profiles and `…GetInfo` are for the privileged,
//! as the header says.

use gpushared_driver_sim::{Code, GiProfile, Placement, Result};

use crate::abi::mig::{Engines, GiInfo, GiProfileV1, GiProfileV2, GiProfileV3, PlacementAbi};
use crate::abi::{DeviceHandle, GpuInstanceHandle, version_of};
use crate::context::{Context, gpu_handle};
use crate::entry::entries;
use crate::pointer::{In, Out, length, list_or_count, text_array};

/// `NVML_GPU_INSTANCE_PROFILE_CAPS_P2P` and `…_GFX`.
const P2P: u32 = 1;
const GFX: u32 = 2;

entries! {
    /// Profile by enum value, without name.
    fn nvmlDeviceGetGpuInstanceProfileInfo(
        device: DeviceHandle, profile: u32, info: Out<GiProfileV1>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        info.require()?;
        let profile = cx.node.gi_profile_by_enum(gpu, profile)?;
        info.set(GiProfileV1 {
            id: profile.id,
            p2p: u32::from(profile.p2p),
            engines: engines(profile),
            memory_mib: profile.memory_mib,
        })
    }

    /// Profile by enum value, in the layout that the version names.
    fn nvmlDeviceGetGpuInstanceProfileInfoV(
        device: DeviceHandle, profile: u32, info: Out<GiProfileV2>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        let version = known_version(info)?;
        let profile = cx.node.gi_profile_by_enum(gpu, profile)?;
        write_versioned(info, version, profile)
    }

    /// Profile by id, in the layout that the version names.
    fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(
        device: DeviceHandle, id: u32, info: Out<GiProfileV2>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        let version = known_version(info)?;
        let profile = cx.node.gi_profile_by_id(gpu, id)?;
        write_versioned(info, version, profile)
    }

    /// Legal placements, whatever exists and whether or not MIG is enabled.
    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        device: DeviceHandle, id: u32, placements: Out<PlacementAbi>, count: Out<u32>,
    ) |cx| {
        possible_placements(cx, device, id, placements, count)
    }

    /// The first symbol: the same layout.
    fn nvmlDeviceGetGpuInstancePossiblePlacements(
        device: DeviceHandle, id: u32, placements: Out<PlacementAbi>, count: Out<u32>,
    ) |cx| {
        possible_placements(cx, device, id, placements, count)
    }

    /// How many more of a profile could be created.
    fn nvmlDeviceGetGpuInstanceRemainingCapacity(device: DeviceHandle, id: u32, count: Out<u32>) |cx| {
        let gpu = cx.gpu(device)?;
        cx.privileged()?;
        count.set(cx.node.gi_remaining_capacity(gpu, id)?)
    }

    /// Creates an instance where the driver likes.
    fn nvmlDeviceCreateGpuInstance(
        device: DeviceHandle, id: u32, instance: Out<GpuInstanceHandle>,
    ) |cx| {
        create(cx, device, id, None, instance)
    }

    /// Creates an instance at a place.
    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        device: DeviceHandle, id: u32, placement: In<PlacementAbi>, instance: Out<GpuInstanceHandle>,
    ) |cx| {
        let PlacementAbi { start, size } = placement.get()?;
        create(cx, device, id, Some(Placement { start, size }), instance)
    }

    /// Destroys an instance; it must be empty.
    fn nvmlGpuInstanceDestroy(instance: GpuInstanceHandle) |cx| {
        let (gpu, gi) = cx.gi_ids(instance)?;
        cx.privileged()?;
        cx.reap();
        cx.node.destroy_gi(gpu, gi, cx.now_ns)
    }

    /// Instances of a profile. The interface has no room: the buffer holds what the profile allows.
    fn nvmlDeviceGetGpuInstances(
        device: DeviceHandle, id: u32, instances: Out<GpuInstanceHandle>, count: Out<u32>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        count.require()?;
        instances.require()?;
        cx.privileged()?;
        let room = cx.node.gi_profile_by_id(gpu, id)?.max_instances as usize;
        let found = cx.node.gis(gpu, id)?;
        let handles = found.into_iter().map(|gi| cx.gi_handle(gpu, gi)).collect::<Result<Vec<_>>>()?;
        instances.fill(room, &handles)?;
        count.set(length(&handles))
    }

    /// Instance by id.
    fn nvmlDeviceGetGpuInstanceById(
        device: DeviceHandle, id: u32, instance: Out<GpuInstanceHandle>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        instance.require()?;
        cx.privileged()?;
        let gi = cx.node.gi(gpu, gpushared_driver_sim::GpuInstanceId::new(id))?.id();
        instance.set(cx.gi_handle(gpu, gi)?)
    }

    /// Id, profile and place of an instance.
    fn nvmlGpuInstanceGetInfo(instance: GpuInstanceHandle, info: Out<GiInfo>) |cx| {
        let (gpu, gi) = cx.gi(instance)?;
        info.set(GiInfo {
            device: gpu_handle(gpu),
            id: gi.id,
            profile: gi.profile_id,
            placement: PlacementAbi { start: gi.start, size: gi.size },
        })
    }
}

/// The version that the caller filled in; v2 and v3 have the same size and different layouts.
fn known_version(info: Out<GiProfileV2>) -> Result<u32> {
    let version = info.cast::<u32>().get()?;
    if version == version_of::<GiProfileV2>(2) || version == version_of::<GiProfileV3>(3) {
        Ok(version)
    } else {
        Err(Code::ARGUMENT_VERSION_MISMATCH)
    }
}

fn write_versioned(info: Out<GiProfileV2>, version: u32, profile: &GiProfile) -> Result<()> {
    let name = text_array(&format!("MIG {}", profile.name));
    if version == version_of::<GiProfileV2>(2) {
        return info.set(GiProfileV2 {
            version,
            id: profile.id,
            p2p: u32::from(profile.p2p),
            engines: engines(profile),
            memory_mib: profile.memory_mib,
            name,
        });
    }
    let capabilities = if profile.p2p { P2P } else { 0 } | if profile.gfx { GFX } else { 0 };
    info.cast::<GiProfileV3>().set(GiProfileV3 {
        version,
        id: profile.id,
        engines: engines(profile),
        memory_mib: profile.memory_mib,
        name,
        capabilities,
    })
}

fn engines(profile: &GiProfile) -> Engines {
    Engines {
        slices: profile.compute_slices,
        instances: profile.max_instances,
        multiprocessors: profile.sm,
        copy_engines: profile.copy_engines,
        decoders: profile.decoders,
        encoders: profile.encoders,
        jpeg: profile.jpeg,
        ofa: profile.ofa,
    }
}

fn possible_placements(
    cx: &Context<'_>,
    device: DeviceHandle,
    id: u32,
    placements: Out<PlacementAbi>,
    count: Out<u32>,
) -> Result<()> {
    let gpu = cx.gpu(device)?;
    cx.privileged()?;
    let found: Vec<_> = cx
        .node
        .gi_placements(gpu, id)?
        .iter()
        .map(|&Placement { start, size }| PlacementAbi { start, size })
        .collect();
    list_or_count(count, placements, &found)
}

fn create(
    cx: &mut Context<'_>,
    device: DeviceHandle,
    id: u32,
    placement: Option<Placement>,
    instance: Out<GpuInstanceHandle>,
) -> Result<()> {
    let gpu = cx.gpu(device)?;
    instance.require()?;
    cx.privileged()?;
    let gi = cx.node.create_gi(gpu, id, placement, cx.now_ns)?;
    instance.set(cx.gi_handle(gpu, gi)?)
}
