//! What each symbol writes, and that it writes no more: guard words behind every buffer stay as they were.

use gpushared_driver_sim::{ClientKind, ClientSpec, GpuSlot, Process};
use gpushared_driver_sim_state::process_start_time;
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;

const GUARD: u8 = 0xA5;

/// Four compute clients; the process is this one, so that it counts as alive.
fn four_clients(sim: &Sim) {
    let pid = std::process::id();
    let start_time = process_start_time(pid).unwrap();
    for used in 1..=4u64 {
        let spec = ClientSpec {
            process: Process { pid, start_time },
            kind: ClientKind::Compute,
            gpu: GpuSlot::new(0),
            mig: None,
            memory: used << 20,
            busy_permille: 0,
            name: "test",
        };
        sim.with(|node| node.register_client(&spec, 1)).unwrap();
    }
}

#[test]
fn the_unversioned_process_list_has_entries_of_16_bytes() {
    let sim = Sim::new(&["h100-80gb"]);
    four_clients(&sim);
    let lib = sim.open();
    let device = gpu(&lib, 0);

    let mut count = 0;
    let asked = nvml!(
        lib,
        nvmlDeviceGetComputeRunningProcesses(device, &raw mut count, std::ptr::null_mut())
    );
    assert_eq!((asked, count), (INSUFFICIENT_SIZE, 4));

    let mut buffer = [GUARD; 4 * 16 + 64];
    let list = buffer.as_mut_ptr().cast::<sys::nvmlProcessInfo_v1_t>();
    let answer = nvml!(
        lib,
        nvmlDeviceGetComputeRunningProcesses(device, &raw mut count, list)
    );
    assert_eq!((answer, count), (SUCCESS, 4));
    assert_eq!(buffer[4 * 16..], [GUARD; 64]);
    let pid = u32::from_ne_bytes(buffer[..4].try_into().unwrap());
    assert_eq!(pid, std::process::id());
    let last = u64::from_ne_bytes(buffer[56..64].try_into().unwrap());
    assert_eq!(last, 4 << 20);

    // Three places for four processes: nothing is written but the count.
    let mut buffer = [GUARD; 4 * 24];
    let mut count = 3;
    let list = buffer.as_mut_ptr().cast();
    let answer = nvml!(
        lib,
        nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, list)
    );
    assert_eq!((answer, count), (INSUFFICIENT_SIZE, 4));
    assert_eq!(buffer, [GUARD; 96]);
}

#[test]
fn no_process_is_a_success_with_nothing() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let mut count = 0;
    let answer = nvml!(
        lib,
        nvmlDeviceGetComputeRunningProcesses_v3(gpu(&lib, 0), &raw mut count, std::ptr::null_mut())
    );
    assert_eq!((answer, count), (SUCCESS, 0));
}

#[test]
fn older_pci_structs_end_where_they_used_to() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut buffer = [GUARD; 68];
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetPciInfo(device, buffer.as_mut_ptr().cast())
        ),
        SUCCESS
    );
    assert_eq!(&buffer[..4], b"0000");
    assert_eq!(buffer[32..], [GUARD; 36]);
    let mut buffer = [GUARD; 68];
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetPciInfo_v2(device, buffer.as_mut_ptr().cast())
        ),
        SUCCESS
    );
    assert_eq!(buffer[36..], [GUARD; 32]);
    let mut buffer = [GUARD; 80];
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetPciInfo_v3(device, buffer.as_mut_ptr().cast())
        ),
        SUCCESS
    );
    assert_eq!(&buffer[36..44], b"00000000");
    assert_eq!(buffer[68..], [GUARD; 12]);
}

#[test]
fn gi_profiles_of_equal_size_are_told_apart_by_their_version() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    // 3g.40gb: enum 2, id 9.
    let read = |version: u32| {
        let mut buffer = [GUARD; 160];
        buffer[..4].copy_from_slice(&version.to_ne_bytes());
        let info = buffer.as_mut_ptr().cast();
        let answer = nvml!(lib, nvmlDeviceGetGpuInstanceProfileInfoV(device, 2, info));
        assert_eq!(buffer[152..], [GUARD; 8]);
        (answer, buffer)
    };
    let memory =
        |buffer: &[u8; 160], at: usize| u64::from_ne_bytes(buffer[at..at + 8].try_into().unwrap());
    let (answer, v2) = read(0x0200_0098);
    assert_eq!(answer, SUCCESS);
    assert!(v2[56..].starts_with(b"MIG 3g.40gb\0"));
    let (answer, v3) = read(0x0300_0098);
    assert_eq!(answer, SUCCESS);
    assert!(v3[48..].starts_with(b"MIG 3g.40gb\0"));
    assert_eq!(memory(&v2, 48), memory(&v3, 40));
    for version in [0, 1, 0x0100_0098, 0x0400_0098, 0x0200_0097] {
        let (answer, buffer) = read(version);
        assert_eq!(answer, VERSION_MISMATCH, "{version:#x}");
        assert_eq!(buffer[4..], [GUARD; 156]);
    }
}

#[test]
fn gpm_touches_no_metric_beyond_the_count() {
    let sim = Sim::new(&["h100-80gb"]);
    four_clients(&sim);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut samples = [std::ptr::null_mut(); 2];
    for sample in &mut samples {
        assert_eq!(nvml!(lib, nvmlGpmSampleAlloc(sample)), SUCCESS);
        sim.step_clock(100);
        assert_eq!(nvml!(lib, nvmlGpmSampleGet(device, *sample)), SUCCESS);
    }
    // Head, two metrics, and the guard in place of the third.
    let mut buffer = [GUARD; 24 + 3 * 40];
    buffer[..4].copy_from_slice(&1u32.to_ne_bytes());
    buffer[4..8].copy_from_slice(&2u32.to_ne_bytes());
    buffer[8..16].copy_from_slice(&samples[0].addr().to_ne_bytes());
    buffer[16..24].copy_from_slice(&samples[1].addr().to_ne_bytes());
    buffer[24..28].copy_from_slice(&2u32.to_ne_bytes());
    buffer[64..68].copy_from_slice(&9999u32.to_ne_bytes());
    assert_eq!(
        nvml!(lib, nvmlGpmMetricsGet(buffer.as_mut_ptr().cast())),
        SUCCESS
    );
    assert_eq!(buffer[28..32], SUCCESS.to_ne_bytes());
    assert_eq!(buffer[68..72], NOT_SUPPORTED.to_ne_bytes());
    assert_eq!(buffer[104..], [GUARD; 40]);
    for sample in samples {
        assert_eq!(nvml!(lib, nvmlGpmSampleFree(sample)), SUCCESS);
        assert_eq!(nvml!(lib, nvmlGpmSampleFree(sample)), INVALID_ARGUMENT);
    }
}
