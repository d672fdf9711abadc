//! Creating and destroying GPU instances and compute instances.

use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId};
use gpushared_domain::mig::{ComputeInstance, GpuInstance, MigMode, MigProfileId, Placement};
use gpushared_domain::ports::{DriverFault, GpuDriverError};

use crate::error::error;
use crate::gpu::{Gpu, describe, mig_mode};
use crate::raw::compute_instance::ComputeInstanceHandle;
use crate::raw::gpu_instance::{GpuInstanceHandle, GpuInstanceInfo};
use crate::raw::profiles::ComputeInstanceProfile;
use crate::raw::{Answer, Refusal, code};

impl Gpu {
    /// Creates a GPU instance at exactly that placement.
    pub(crate) fn create_gpu_instance(
        &mut self,
        profile: MigProfileId,
        placement: Placement,
    ) -> Result<GpuInstance, GpuDriverError> {
        let doing = format!(
            "creating {profile}@{} on {}",
            placement.start, self.facts.uuid
        );
        let handle =
            GpuInstanceHandle::create(&self.device, profile.0, placement.start, placement.size)
                .map_err(|refusal| error(doing.clone(), &refusal))?;
        let info = match handle.info() {
            Ok(info) => info,
            Err(refusal) => {
                let undone = undo(handle);
                return Err(error(
                    format!("{doing}: reading it back ({undone})"),
                    &refusal,
                ));
            }
        };
        if let Some(made) = elsewhere(&info, profile, placement) {
            let undone = undo(handle);
            return Err(GpuDriverError::new(
                format!("{doing}: the driver made {made} instead ({undone})"),
                DriverFault::InsufficientResources,
            ));
        }
        Ok(GpuInstance {
            id: GpuInstanceId(info.id),
            profile,
            placement,
            compute_instances: Vec::new(),
        })
    }

    /// Creates the compute instance that covers a GPU instance.
    pub(crate) fn create_compute_instance(
        &mut self,
        instance: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError> {
        let doing = format!(
            "creating the compute instance of GPU instance {instance} on {}",
            self.facts.uuid
        );
        let failed = |refusal: Refusal| error(doing.clone(), &refusal);
        let handle = GpuInstanceHandle::by_id(&self.device, instance.0).map_err(failed)?;
        let info = handle.info().map_err(failed)?;
        let slices = self
            .profiles
            .iter()
            .find(|profile| profile.id.0 == info.profile)
            .map(|profile| profile.compute_slices);
        let all = self.compute_profiles(&handle, &info).map_err(failed)?;
        let candidates = candidates(all, slices);
        let (compute, profile) = first_accepted(&candidates, |profile| {
            ComputeInstanceHandle::create(&handle, profile.id)
        })
        .map_err(failed)?;
        match describe(&compute, profile) {
            Ok((compute, _)) => Ok(compute),
            Err(refusal) => {
                let undone = match compute.destroy() {
                    Ok(()) => "destroyed again".to_owned(),
                    Err(why) => format!("destroying it again failed, too: {why}"),
                };
                Err(error(
                    format!("{doing}: reading it back ({undone})"),
                    &refusal,
                ))
            }
        }
    }

    /// Destroys a compute instance, if it is there.
    pub(crate) fn destroy_compute_instance(
        &mut self,
        instance: GpuInstanceId,
        compute: ComputeInstanceId,
    ) -> Result<(), GpuDriverError> {
        let answer = GpuInstanceHandle::by_id(&self.device, instance.0)
            .and_then(|handle| ComputeInstanceHandle::by_id(&handle, compute.0))
            .and_then(ComputeInstanceHandle::destroy);
        self.gone_is_done(answer).map_err(|refusal| {
            let doing = format!(
                "destroying compute instance {compute} of GPU instance {instance} on {}",
                self.facts.uuid
            );
            error(doing, &refusal)
        })
    }

    /// Destroys a GPU instance, if it is there.
    pub(crate) fn destroy_gpu_instance(
        &mut self,
        instance: GpuInstanceId,
    ) -> Result<(), GpuDriverError> {
        let answer =
            GpuInstanceHandle::by_id(&self.device, instance.0).and_then(GpuInstanceHandle::destroy);
        self.gone_is_done(answer).map_err(|refusal| {
            let doing = format!("destroying GPU instance {instance} on {}", self.facts.uuid);
            error(doing, &refusal)
        })
    }

    /// What is gone already counts as destroyed; with MIG mode off there is nothing left to destroy.
    fn gone_is_done(&self, answer: Answer<()>) -> Answer<()> {
        match answer {
            Err(refusal) if refusal.is(&[code::NOT_FOUND]) => Ok(()),
            Err(refusal) if refusal.is(&[code::NOT_SUPPORTED]) => match mig_mode(&self.device)? {
                MigMode::Disabled => Ok(()),
                _ => Err(refusal),
            },
            other => other,
        }
    }
}

/// What was made, if it is not what was wanted.
fn elsewhere(info: &GpuInstanceInfo, profile: MigProfileId, wanted: Placement) -> Option<String> {
    let real = Placement {
        start: info.start,
        size: info.size,
    };
    (real != wanted || info.profile != profile.0).then(|| format!("{} at {real}", info.profile))
}

/// Takes back a GPU instance that is not what was wanted; says how that went.
fn undo(handle: GpuInstanceHandle) -> String {
    match handle.destroy() {
        Ok(()) => "destroyed again".to_owned(),
        Err(why) => format!("destroying it again failed, too: {why}"),
    }
}

/// Profiles that cover the GPU instance, the one with most multiprocessors first.
///
/// Why most first: on Hopper and Blackwell the 1g profile with double memory has its full count only with the second
/// 1-slice profile. Why the others, too: A100 lists profiles (1-slice second kind, 7-slice for NVLink) that it then
/// refuses.
fn candidates(all: &[ComputeInstanceProfile], slices: Option<u32>) -> Vec<ComputeInstanceProfile> {
    let slices = slices.or_else(|| all.iter().map(|profile| profile.slices).max());
    let mut candidates: Vec<_> = all
        .iter()
        .filter(|profile| Some(profile.slices) == slices)
        .copied()
        .collect();
    candidates.sort_by_key(|profile| std::cmp::Reverse(profile.multiprocessors));
    candidates
}

/// The first candidate that the driver takes.
fn first_accepted<T>(
    candidates: &[ComputeInstanceProfile],
    mut create: impl FnMut(&ComputeInstanceProfile) -> Answer<T>,
) -> Answer<(T, &ComputeInstanceProfile)> {
    const NEXT: [u32; 3] = [
        code::NOT_SUPPORTED,
        code::INVALID_ARGUMENT,
        code::INSUFFICIENT_RESOURCES,
    ];
    let mut last = Refusal::Code(code::NOT_FOUND);
    for candidate in candidates {
        match create(candidate) {
            Ok(created) => return Ok((created, candidate)),
            Err(refusal) if refusal.is(&NEXT) => {
                tracing::debug!(profile = candidate.id, %refusal, "Trying the next compute instance profile");
                last = refusal;
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: u32, slices: u32, multiprocessors: u32) -> ComputeInstanceProfile {
        ComputeInstanceProfile {
            id,
            slices,
            most: 1,
            multiprocessors,
        }
    }

    #[test]
    fn an_instance_that_lies_elsewhere_is_not_taken_for_the_wanted_one() {
        let wanted = Placement { start: 3, size: 1 };
        let made = |profile, start| GpuInstanceInfo {
            id: 9,
            profile,
            start,
            size: 1,
        };
        let profile = MigProfileId(19);
        assert_eq!(elsewhere(&made(19, 3), profile, wanted), None);
        assert_eq!(
            elsewhere(&made(19, 6), profile, wanted),
            Some("19 at 6:1".to_owned())
        );
        assert!(elsewhere(&made(20, 3), profile, wanted).is_some());
    }

    #[test]
    fn the_compute_profile_with_most_multiprocessors_is_tried_first() {
        // 1g with double memory on Hopper: the second 1-slice profile has all of its multiprocessors.
        let all = [profile(0, 1, 16), profile(7, 1, 26)];
        let order: Vec<u32> = candidates(&all, Some(1)).iter().map(|p| p.id).collect();
        assert_eq!(order, [7, 0]);
        // Profiles that leave a part of the instance unused are none.
        let all = [profile(0, 1, 14), profile(1, 2, 28), profile(2, 3, 42)];
        let order: Vec<u32> = candidates(&all, Some(3)).iter().map(|p| p.id).collect();
        assert_eq!(order, [2]);
    }

    #[test]
    fn a_listed_compute_profile_that_is_refused_gives_way_to_the_next() {
        // A100 lists the NVLink variant of 7 slices and then says that it is not supported.
        let candidates = [profile(8, 7, 98), profile(4, 7, 98)];
        for refused in [
            code::NOT_SUPPORTED,
            code::INVALID_ARGUMENT,
            code::INSUFFICIENT_RESOURCES,
        ] {
            let (made, chosen) = first_accepted(&candidates, |profile| match profile.id {
                8 => Err(Refusal::Code(refused)),
                id => Ok(id),
            })
            .unwrap();
            assert_eq!((made, chosen.id), (4, 4));
        }
    }

    #[test]
    fn an_error_of_another_kind_ends_the_search() {
        let candidates = [profile(7, 1, 26), profile(0, 1, 16)];
        let mut tried = 0;
        let answer: Answer<((), _)> = first_accepted(&candidates, |_| {
            tried += 1;
            Err(Refusal::Code(code::GPU_IS_LOST))
        });
        assert_eq!(answer.unwrap_err(), Refusal::Code(code::GPU_IS_LOST));
        assert_eq!(tried, 1);
    }
}
