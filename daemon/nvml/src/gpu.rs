//! One GPU as the driver describes it: facts and profiles, which do not change while the driver runs and are read
//! once, and mode and instances, which are read each time.
//!
//! GPU instances are walked, not MIG device handles: an instance without a compute instance has no MIG device, and
//! would hold its room unseen for ever.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use gpushared_domain::ids::{
    ComputeInstanceId, GpuIndex, GpuInstanceId, GpuMinor, GpuUuid, PciAddress,
};
use gpushared_domain::inventory::{GpuFacts, GpuState};
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigMode, MigProfile, MigProfileId, Placement,
};
use nvml_wrapper::Device;

use crate::numa;
use crate::profile_name::{derived, said};
use crate::raw::compute_instance::ComputeInstanceHandle;
use crate::raw::gpu_instance::{GpuInstanceHandle, GpuInstanceInfo};
use crate::raw::profiles::{self, ComputeInstanceProfile};
use crate::raw::{Answer, Refusal, code, memory};

/// What is known about a GPU.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: Device<'static>,
    pub(crate) facts: GpuFacts,
    pub(crate) profiles: Vec<MigProfile>,
    /// Compute-instance profiles within an instance of each GPU-instance profile, read with its first instance.
    compute: BTreeMap<MigProfileId, Vec<ComputeInstanceProfile>>,
}

impl Gpu {
    /// Reads facts and profiles.
    pub(crate) fn read(device: Device<'static>, uuid: GpuUuid, sysroot: &Path) -> Answer<Self> {
        let pci = PciAddress::from_nvml(&device.pci_info()?.bus_id)?;
        let capability = device.cuda_compute_capability()?;
        let number = |part: i32| u32::try_from(part).unwrap_or(0);
        let facts = GpuFacts {
            uuid,
            index: GpuIndex(device.index()?),
            minor: GpuMinor(device.minor_number()?),
            name: device.name()?,
            numa_node: numa::node_of(sysroot, &pci),
            pci,
            memory_bytes: memory::memory(&device)?.total,
            compute_capability: (number(capability.major), number(capability.minor)),
        };
        let profiles = match mig_mode(&device)? {
            MigMode::Unsupported => Vec::new(),
            _ => read_profiles(&device, facts.memory_bytes)?,
        };
        Ok(Self {
            device,
            facts,
            profiles,
            compute: BTreeMap::new(),
        })
    }

    /// With a handle that was just looked up. The minor and the index may have changed with a reset.
    pub(crate) fn renew(&mut self, device: Device<'static>, index: GpuIndex) -> Answer<()> {
        self.facts.minor = GpuMinor(device.minor_number()?);
        self.facts.index = index;
        self.device = device;
        Ok(())
    }

    /// The GPU at this moment.
    pub(crate) fn state(&mut self) -> Answer<GpuState> {
        let mode = mig_mode(&self.device)?;
        let instances = match mode {
            MigMode::Unsupported | MigMode::Disabled => Vec::new(),
            MigMode::Enabled | MigMode::Pending { .. } => self.instances()?,
        };
        Ok(GpuState {
            facts: self.facts.clone(),
            mig_mode: mode,
            profiles: self.profiles.clone(),
            instances,
        })
    }

    fn instances(&mut self) -> Answer<Vec<GpuInstance>> {
        let mut instances = Vec::new();
        let known: Vec<(u32, u32)> = self
            .profiles
            .iter()
            .map(|profile| (profile.id.0, profile.max_instances))
            .collect();
        for (profile, most) in known {
            let handles = match GpuInstanceHandle::of_profile(&self.device, profile, most) {
                // MIG mode is off: it is on its way there or back.
                Err(refusal) if refusal.is(&[code::NOT_SUPPORTED]) => continue,
                other => other?,
            };
            for handle in handles {
                if let Some(instance) = unless_gone(self.instance(&handle))? {
                    instances.push(instance);
                }
            }
        }
        instances.sort_by_key(|instance| instance.placement);
        Ok(instances)
    }

    fn instance(&mut self, handle: &GpuInstanceHandle) -> Answer<GpuInstance> {
        let info = handle.info()?;
        let compute_instances = self
            .compute_instances(handle, &info)?
            .into_iter()
            .map(|(compute, _)| compute)
            .collect();
        Ok(GpuInstance {
            id: GpuInstanceId(info.id),
            profile: MigProfileId(info.profile),
            placement: Placement {
                start: info.start,
                size: info.size,
            },
            compute_instances,
        })
    }

    /// The compute instances of a GPU instance, each with its MIG device.
    pub(crate) fn compute_instances(
        &mut self,
        handle: &GpuInstanceHandle,
        info: &GpuInstanceInfo,
    ) -> Answer<Vec<(ComputeInstance, Device<'static>)>> {
        let mut found = Vec::new();
        for profile in self.compute_profiles(handle, info)? {
            for compute in ComputeInstanceHandle::of_profile(handle, profile.id, profile.most)? {
                if let Some(compute) = unless_gone(describe(&compute, profile))? {
                    found.push(compute);
                }
            }
        }
        Ok(found)
    }

    /// The compute-instance profiles within a GPU instance.
    pub(crate) fn compute_profiles(
        &mut self,
        handle: &GpuInstanceHandle,
        info: &GpuInstanceInfo,
    ) -> Answer<&[ComputeInstanceProfile]> {
        match self.compute.entry(MigProfileId(info.profile)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let all = each_enum(|profile| profiles::compute_instance_profile(handle, profile))?;
                let all = all.into_iter().map(|(_, profile)| profile).collect();
                Ok(place.insert(all))
            }
        }
    }
}

/// A compute instance for the domain, and its MIG device.
pub(crate) fn describe(
    handle: &ComputeInstanceHandle,
    profile: &ComputeInstanceProfile,
) -> Answer<(ComputeInstance, Device<'static>)> {
    let info = handle.info()?;
    let uuid = info.device.uuid()?.parse()?;
    let compute = ComputeInstance {
        id: ComputeInstanceId(info.id),
        profile: info.profile,
        slices: profile.slices,
        uuid,
    };
    Ok((compute, info.device))
}

/// The GPU's MIG mode.
pub(crate) fn mig_mode(device: &Device<'static>) -> Answer<MigMode> {
    let mode = match device.mig_mode().map_err(Refusal::from) {
        Err(refusal) if refusal.is(&[code::NOT_SUPPORTED]) => return Ok(MigMode::Unsupported),
        other => other?,
    };
    Ok(match (mode.current, mode.pending) {
        (0, 0) => MigMode::Disabled,
        (current, pending) if current == pending => MigMode::Enabled,
        (_, pending) => MigMode::Pending {
            enabled: pending != 0,
        },
    })
}

fn read_profiles(device: &Device<'static>, gpu_bytes: u64) -> Answer<Vec<MigProfile>> {
    let mut read = Vec::new();
    for (number, profile) in each_enum(|number| profiles::gpu_instance_profile(device, number))? {
        let mut placements: Vec<Placement> = profiles::placements(device, profile.id)?
            .into_iter()
            .map(|(start, size)| Placement { start, size })
            .collect();
        placements.sort();
        let name = profile.name.as_deref().map_or_else(
            || derived(number, profile.slices, profile.memory_mib, gpu_bytes),
            said,
        );
        read.push(MigProfile {
            id: MigProfileId(profile.id),
            name,
            compute_slices: profile.slices,
            max_instances: profile.most,
            memory_mib: profile.memory_mib,
            multiprocessors: profile.multiprocessors,
            placements,
        });
    }
    Ok(read)
}

/// Asks for one profile enum after the other, up to the driver's last.
fn each_enum<T>(mut ask: impl FnMut(u32) -> Answer<T>) -> Answer<Vec<(u32, T)>> {
    let mut answers = Vec::new();
    for number in 0..profiles::ENUMS {
        match ask(number) {
            Ok(answer) => answers.push((number, answer)),
            Err(refusal) if refusal.is(&[code::NOT_SUPPORTED]) => {}
            Err(refusal) if refusal.is(&[code::INVALID_ARGUMENT]) => break,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(answers)
}

/// `None` for an instance that somebody destroyed between the list and the look.
fn unless_gone<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.is(&[code::NOT_FOUND, code::INVALID_ARGUMENT]) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
