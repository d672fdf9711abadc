//! Compute instances: profiles, placements, create, destroy, list. All but profiles and `…GetInfo` are for the
//! privileged, as the header says.
//!
//! `info.device` of a compute instance *is* the MIG device handle, whatever the header says ("parent device"):
//! NVIDIA's DRA driver takes the MIG UUID from it.

use gpushared_driver_sim::{
    CiProfile, Code, ComputeInstanceId, GiProfile, GpuInstanceId, GpuSlot, MigDevice, Placement,
    Result,
};

use crate::abi::mig::{
    CiInfoV1, CiInfoV2, CiProfileV1, CiProfileV2, CiProfileV3, Engines, PlacementAbi,
};
use crate::abi::{ComputeInstanceHandle, GpuInstanceHandle, version_of};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{In, Out, length, list_or_count, text_array};

entries! {
    /// Profile by enum value and engine profile (0 shared), without name.
    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
        instance: GpuInstanceHandle, profile: u32, engine_profile: u32, info: Out<CiProfileV1>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        info.require()?;
        let profile = cx.node.ci_profile_by_enum(gpu, gi, profile, engine_profile)?;
        let within = cx.node.gi(gpu, gi)?.profile(cx.node.gpu(gpu)?)?;
        info.set(CiProfileV1 { id: profile.id, engines: engines(profile, within) })
    }

    /// The same in the layout that the version names.
    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
        instance: GpuInstanceHandle, profile: u32, engine_profile: u32, info: Out<CiProfileV2>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        let version = info.cast::<u32>().get()?;
        if version != version_of::<CiProfileV2>(2) && version != version_of::<CiProfileV3>(3) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let profile = cx.node.ci_profile_by_enum(gpu, gi, profile, engine_profile)?;
        let within = cx.node.gi(gpu, gi)?.profile(cx.node.gpu(gpu)?)?;
        let v2 = CiProfileV2 {
            version,
            id: profile.id,
            engines: engines(profile, within),
            name: text_array(&format!("MIG {}", profile.name)),
        };
        if version == version_of::<CiProfileV2>(2) {
            return info.set(v2);
        }
        let CiProfileV2 { id, engines, name, .. } = v2;
        let capabilities = if within.gfx { 1 } else { 0 };
        info.cast::<CiProfileV3>().set(CiProfileV3 { version, id, engines, name, capabilities })
    }

    /// How many more of a profile could be created.
    fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
        instance: GpuInstanceHandle, id: u32, count: Out<u32>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        cx.privileged()?;
        count.set(cx.node.ci_remaining_capacity(gpu, gi, id)?)
    }

    /// Legal placements in compute slices.
    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        instance: GpuInstanceHandle, id: u32, placements: Out<PlacementAbi>, count: Out<u32>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        cx.privileged()?;
        let found: Vec<_> = cx
            .node
            .ci_placements(gpu, gi, id)?
            .into_iter()
            .map(|Placement { start, size }| PlacementAbi { start, size })
            .collect();
        list_or_count(count, placements, &found)
    }

    /// Creates an instance where the driver likes.
    fn nvmlGpuInstanceCreateComputeInstance(
        instance: GpuInstanceHandle, id: u32, created: Out<ComputeInstanceHandle>,
    ) |cx| {
        create(cx, instance, id, None, created)
    }

    /// Creates an instance at a place.
    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        instance: GpuInstanceHandle, id: u32, placement: In<PlacementAbi>,
        created: Out<ComputeInstanceHandle>,
    ) |cx| {
        let PlacementAbi { start, size } = placement.get()?;
        create(cx, instance, id, Some(Placement { start, size }), created)
    }

    /// Destroys an instance that no client holds.
    fn nvmlComputeInstanceDestroy(instance: ComputeInstanceHandle) |cx| {
        let device = cx.ci_ids(instance)?;
        cx.privileged()?;
        cx.reap();
        cx.node.destroy_ci(device, cx.now_ns)
    }

    /// Instances of a profile. The interface has no room: the buffer holds what the profile allows.
    fn nvmlGpuInstanceGetComputeInstances(
        instance: GpuInstanceHandle, id: u32, instances: Out<ComputeInstanceHandle>, count: Out<u32>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        count.require()?;
        instances.require()?;
        cx.privileged()?;
        let room = cx.node.ci_profile_by_id(gpu, gi, id)?.max_instances as usize;
        let found = cx.node.cis(gpu, gi, id)?;
        let handles = found
            .into_iter()
            .map(|ci| cx.ci_handle(MigDevice { gpu, gi, ci }))
            .collect::<Result<Vec<_>>>()?;
        instances.fill(room, &handles)?;
        count.set(length(&handles))
    }

    /// Instance by id.
    fn nvmlGpuInstanceGetComputeInstanceById(
        instance: GpuInstanceHandle, id: u32, found: Out<ComputeInstanceHandle>,
    ) |cx| {
        let (gpu, gi) = existing(cx, instance)?;
        found.require()?;
        cx.privileged()?;
        let ci = cx.node.ci(gpu, gi, ComputeInstanceId::new(id))?.id();
        found.set(cx.ci_handle(MigDevice { gpu, gi, ci })?)
    }

    /// Device, ids and profile; 24 bytes without the placement.
    fn nvmlComputeInstanceGetInfo(instance: ComputeInstanceHandle, info: Out<CiInfoV1>) |cx| {
        info.set(info_of(cx, instance)?.v1)
    }

    /// Device, ids, profile and placement.
    fn nvmlComputeInstanceGetInfo_v2(instance: ComputeInstanceHandle, info: Out<CiInfoV2>) |cx| {
        info.set(info_of(cx, instance)?)
    }
}

fn existing(cx: &Context<'_>, instance: GpuInstanceHandle) -> Result<(GpuSlot, GpuInstanceId)> {
    let (gpu, gi) = cx.gi(instance)?;
    Ok((gpu, gi.id()))
}

/// Slices and multiprocessors of the compute instance; the engines are those of its GPU instance, shared.
fn engines(profile: &CiProfile, within: &GiProfile) -> Engines {
    Engines {
        slices: profile.slices,
        instances: profile.max_instances,
        multiprocessors: profile.sm,
        copy_engines: within.copy_engines,
        decoders: within.decoders,
        encoders: within.encoders,
        jpeg: within.jpeg,
        ofa: within.ofa,
    }
}

fn create(
    cx: &mut Context<'_>,
    instance: GpuInstanceHandle,
    id: u32,
    placement: Option<Placement>,
    created: Out<ComputeInstanceHandle>,
) -> Result<()> {
    let (gpu, gi) = existing(cx, instance)?;
    created.require()?;
    cx.privileged()?;
    let ci = cx.node.create_ci(gpu, gi, id, placement, cx.now_ns)?;
    created.set(cx.ci_handle(MigDevice { gpu, gi, ci })?)
}

fn info_of(cx: &Context<'_>, instance: ComputeInstanceHandle) -> Result<CiInfoV2> {
    let device = cx.ci(instance)?;
    let ci = cx.node.ci(device.gpu, device.gi, device.ci)?;
    Ok(CiInfoV2 {
        v1: CiInfoV1 {
            device: cx.mig_handle(device)?,
            gpu_instance: cx.gi_handle(device.gpu, device.gi)?,
            id: ci.id,
            profile: ci.profile_id,
        },
        placement: PlacementAbi {
            start: ci.start,
            size: ci.size,
        },
    })
}
