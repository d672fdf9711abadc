//! A small node for tests of this crate.

use super::*;
use crate::ids::{GpuIndex, PciAddress};
use crate::inventory::{DriverInfo, GpuFacts};
use crate::mig::{ComputeInstance, MigProfile, MigProfileId, Placement};

pub(crate) fn gpu(index: u32, mig_mode: MigMode, instances: Vec<GpuInstance>) -> GpuState {
    GpuState {
        facts: GpuFacts {
            uuid: format!("GPU-00000000-0000-0000-0000-{index:012}")
                .parse()
                .expect("valid"),
            index: GpuIndex(index),
            minor: GpuMinor(index),
            name: "NVIDIA H100 80GB HBM3".into(),
            pci: PciAddress::from_nvml("00000000:1B:00.0").expect("valid"),
            memory_bytes: 80 << 30,
            compute_capability: (9, 0),
            numa_node: Some(1),
        },
        mig_mode,
        profiles: vec![MigProfile {
            id: MigProfileId(9),
            name: "3g.40gb".into(),
            compute_slices: 3,
            max_instances: 2,
            memory_mib: 40_448,
            multiprocessors: 60,
            placements: vec![
                Placement { start: 0, size: 4 },
                Placement { start: 4, size: 4 },
            ],
        }],
        instances,
    }
}

pub(crate) fn instance(id: u32, start: u32, slices: &[u32]) -> GpuInstance {
    GpuInstance {
        id: GpuInstanceId(id),
        profile: MigProfileId(9),
        placement: Placement { start, size: 4 },
        compute_instances: slices
            .iter()
            .zip(0..)
            .map(|(&slices, n)| ComputeInstance {
                id: ComputeInstanceId(n),
                profile: 2,
                slices,
                uuid: format!("MIG-00000000-0000-0000-{id:04}-{n:012}")
                    .parse()
                    .expect("valid"),
            })
            .collect(),
    }
}

pub(crate) fn inventory(gpus: Vec<GpuState>) -> Inventory {
    let driver = DriverInfo {
        driver_version: "570.124.06".into(),
        nvml_version: "12.570.124.06".into(),
        cuda_version: 12_080,
        simulated: true,
    };
    Inventory {
        driver,
        gpus,
        unreadable: Vec::new(),
    }
}

pub(crate) fn policy() -> OfferPolicy {
    OfferPolicy {
        gpu: Some("nvidia.com/gpu".parse().expect("valid")),
        mig_domain: Some("nvidia.com".into()),
        excluded: BTreeSet::new(),
    }
}
