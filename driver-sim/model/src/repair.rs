//! Brings a node back into order after a process died, or panicked, in the middle of a change.

use crate::gpu::Gpu;
use crate::gpu_model::{GiProfile, GpuModel};
use crate::ids::{ComputeInstanceId, GpuInstanceId, NO_INSTANCE};
use crate::mig::{ComputeInstance, GpuInstance, gpu_instance_id};
use crate::node::{MAX_GPUS, Node};
use crate::plain::Plain;

impl Node {
    /// Removes what breaks an invariant: instances that no table allows or that overlap, clients of instances that
    /// do not exist, numbers out of range. A node in order is left as it is. Bumps both generations, so that
    /// waiting readers look again and the files follow.
    pub fn repair(&mut self) {
        self.header.gpu_count = self
            .header
            .gpu_count
            .min(u32::try_from(MAX_GPUS).unwrap_or(0));
        for gpu in &mut self.gpus {
            gpu.repair();
        }
        let gpus = self.gpus;
        for client in self.clients.iter_mut().filter(|client| client.pid != 0) {
            let gpu = gpus
                .get(client.gpu as usize)
                .filter(|_| client.gpu < self.header.gpu_count);
            let gi = GpuInstanceId::new(client.gi);
            let ci = ComputeInstanceId::new(client.ci);
            let placed = gpu.is_some_and(|gpu| {
                client.gi == NO_INSTANCE
                    || gpu
                        .instance(gi)
                        .is_ok_and(|gi| gi.compute_instance(ci).is_ok())
            });
            if !placed || client.kind().is_none() {
                *client = Plain::ZERO;
            }
        }
        self.touch_layout();
    }
}

impl Gpu {
    fn repair(&mut self) {
        self.mig_current = u32::from(self.mig_current != 0);
        self.mig_pending = u32::from(self.mig_pending != 0);
        let mig = GpuModel::get(self.model).and_then(|model| model.mig.as_ref());
        let Some(mig) = mig.filter(|_| self.mig_enabled()) else {
            self.clear_instances();
            return;
        };
        let found = self.gis;
        self.clear_instances();
        for instance in found.iter().filter(|gi| gi.in_use != 0) {
            let Some(profile) = mig.gi_profile(instance.profile_id) else {
                continue;
            };
            let place = instance.placement();
            let legal = profile.placements.contains(&place)
                && instance.id() == gpu_instance_id(self.board_map, mig.grid_slots, place)
                && self.may_place(mig, profile, place);
            // Found by the indices of their MIG devices, which no two may share.
            let mut indices: Vec<u32> = self
                .instances()
                .flat_map(|gi| gi.compute_instances().map(|ci| ci.mig_index))
                .collect();
            let free = self.gis.iter_mut().find(|gi| gi.in_use == 0);
            if let (true, Some(free)) = (legal, free) {
                *free = *instance;
                free.repair(profile, |ci| {
                    let new =
                        ci.mig_index < mig.max_gpu_instances && !indices.contains(&ci.mig_index);
                    indices.push(ci.mig_index);
                    new
                });
            }
        }
    }
}

impl GpuInstance {
    fn repair(&mut self, gi: &GiProfile, mut indexed: impl FnMut(&ComputeInstance) -> bool) {
        let found = self.cis;
        self.cis = Plain::ZERO;
        for compute in found.iter().filter(|ci| ci.in_use != 0) {
            let place = compute.placement();
            let legal = gi.ci_profile(compute.profile_id).is_some_and(|profile| {
                profile.creatable
                    && profile.placements().any(|p| p == place)
                    && self.place_for(gi, profile, place)
            }) && compute.id < 8
                && self.compute_instance(compute.id()).is_err()
                && indexed(compute);
            let free = self.cis.iter_mut().find(|ci| ci.in_use == 0);
            if let (true, Some(free)) = (legal, free) {
                *free = *compute;
            }
        }
    }
}
