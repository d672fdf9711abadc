//! A second process with its own copy of the library sees the same node at once.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::ptr::null_mut;

use gpushared_driver_sim::GpuSlot;
use gpushared_driver_sim_state::SharedNode;
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;
use crate::mig;

const LIBRARY: &str = "GPUSIM_TEST_LIBRARY";
const ACTION: &str = "GPUSIM_TEST_ACTION";

/// Runs `other_process` with an action in a new process; answers what it printed after `answer:`.
fn elsewhere(sim: &Sim, action: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "two_processes::other_process",
            "--ignored",
            "--nocapture",
        ])
        .env(LIBRARY, sim.library_path())
        .env(ACTION, action);
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text.split("answer:")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .unwrap_or("")
        .to_owned()
}

/// The other process: not a test by itself.
#[test]
#[ignore = "run by the tests of this file in a process of its own"]
fn other_process() {
    let (Some(library), Ok(action)) = (std::env::var_os(LIBRARY), std::env::var(ACTION)) else {
        return;
    };
    // SAFETY: the library has no initialisers with preconditions.
    let lib = unsafe { sys::NvmlLib::new(&library) }.unwrap();
    assert_eq!(nvml!(lib, nvmlInit_v2()), SUCCESS);
    let device = gpu(&lib, 0);
    match action.as_str() {
        "count MIG devices" => {
            let mut found = 0;
            for index in 0..7 {
                let mut mig = null_mut();
                let answer = nvml!(
                    lib,
                    nvmlDeviceGetMigDeviceHandleByIndex(device, index, &raw mut mig)
                );
                found += u32::from(answer == SUCCESS);
            }
            println!("answer:{found}");
        }
        "create" => {
            let gi = mig::create_gi(&lib, device, 19, 2, 1).unwrap();
            println!(
                "answer:{}",
                mig::ci_info(&lib, mig::create_ci(&lib, gi, 0))
                    .device
                    .addr()
            );
        }
        "persistence" => {
            println!(
                "answer:{}",
                nvml!(lib, nvmlDeviceSetPersistenceMode(device, 1))
            );
        }
        "wait for Xids" => {
            let mut set = null_mut();
            assert_eq!(nvml!(lib, nvmlEventSetCreate(&raw mut set)), SUCCESS);
            assert_eq!(
                nvml!(lib, nvmlDeviceRegisterEvents(device, 8, set)),
                SUCCESS
            );
            let dir = Path::new(&library).ancestors().nth(2).unwrap();
            let node = SharedNode::open(dir).unwrap();
            node.with_unreaped(|node| {
                let slot = GpuSlot::new(0);
                let gi = node.gpu(slot).unwrap().instances().next().unwrap().id();
                node.inject_mig_xid(slot, gi, None, 13, 1).unwrap();
                node.inject_xid(slot, 48, 1).unwrap();
            })
            .unwrap();
            let mut xids = Vec::new();
            loop {
                // SAFETY: plain C data; all zeroes is a value.
                let mut event: sys::nvmlEventData_t = unsafe { std::mem::zeroed() };
                match nvml!(lib, nvmlEventSetWait_v2(set, &raw mut event, 0)) {
                    SUCCESS => xids.push(event.eventData),
                    TIMEOUT => break,
                    other => panic!("{other}"),
                }
            }
            println!("answer:{xids:?}");
        }
        "look at instances" => {
            let mut count = 0;
            let mut found = null_mut();
            // SAFETY: plain C data; all zeroes is a value.
            let mut memory: sys::nvmlBAR1Memory_t = unsafe { std::mem::zeroed() };
            let out = &raw mut count;
            let answers = [
                nvml!(
                    lib,
                    nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, 19, null_mut(), out)
                ),
                nvml!(
                    lib,
                    nvmlDeviceGetGpuInstanceRemainingCapacity(device, 19, out)
                ),
                nvml!(
                    lib,
                    nvmlDeviceGetGpuInstances(device, 0, &raw mut found, out)
                ),
                nvml!(lib, nvmlDeviceGetGpuInstanceById(device, 0, &raw mut found)),
                nvml!(lib, nvmlDeviceGetBAR1MemoryInfo(device, &raw mut memory)),
            ];
            println!("answer:{answers:?}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn instances_made_here_exist_there_and_the_other_way_round() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    mig::enable(&lib, device);
    let gi = mig::create_gi(&lib, device, 9, 4, 4).unwrap();
    let ci = mig::create_ci(&lib, gi, 2);
    assert_eq!(elsewhere(&sim, "count MIG devices", |_| ()), "1");
    let created: usize = elsewhere(&sim, "create", |_| ()).parse().unwrap();
    // The handle of an instance is the same number everywhere.
    let mut uuid = [0u8; 96];
    let device = std::ptr::without_provenance_mut(created);
    assert_eq!(
        nvml!(lib, nvmlDeviceGetUUID(device, uuid.as_mut_ptr().cast(), 96)),
        SUCCESS
    );
    assert_eq!(nvml!(lib, nvmlComputeInstanceDestroy(ci)), SUCCESS);
    assert_eq!(nvml!(lib, nvmlGpuInstanceDestroy(gi)), SUCCESS);
    assert_eq!(elsewhere(&sim, "count MIG devices", |_| ()), "1");
}

#[test]
fn only_root_or_a_declared_user_changes_the_node_or_looks_at_instances() {
    const NOBODY: u32 = 65534;
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root, to become somebody else");
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    // Everybody may enter the node directory.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(sim.path(), open).unwrap();
    let program = std::env::current_exe().unwrap();
    let reachable = program.ancestors().skip(1).all(|dir| {
        std::fs::metadata(dir).is_ok_and(|found| {
            std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o005 == 0o005
        })
    });
    if !reachable {
        println!("skipped: the test program lies where another user cannot reach it");
        return;
    }
    sim.with(|node| {
        let slot = GpuSlot::new(0);
        node.set_mig_mode(slot, 1, 1).unwrap();
        node.create_gi(slot, 0, None, 1).unwrap();
    });
    let answer = |action, prepare: &dyn Fn(&mut Command)| {
        elsewhere(&sim, action, |command| prepare(command))
    };
    let as_nobody = |command: &mut Command| {
        command.uid(NOBODY).env_remove("GPUSIM_ANY_UID");
    };
    assert_eq!(answer("persistence", &as_nobody), NO_PERMISSION.to_string());
    let refused = format!("{:?}", [NO_PERMISSION; 5]);
    assert_eq!(answer("look at instances", &as_nobody), refused);
    assert_eq!(answer("wait for Xids", &as_nobody), "[48]");
    let as_declared = |command: &mut Command| {
        command.uid(NOBODY).env("GPUSIM_ANY_UID", "1");
    };
    assert_eq!(answer("persistence", &as_declared), SUCCESS.to_string());
    let allowed = format!("{:?}", [SUCCESS; 5]);
    assert_eq!(answer("look at instances", &as_declared), allowed);
    assert_eq!(answer("wait for Xids", &as_declared), "[13, 48]");
}

#[test]
fn the_node_may_be_named_by_the_environment() {
    let sim = Sim::new(&["h100-80gb"]);
    let elsewhere_dir = tempfile::tempdir().unwrap();
    let copy = elsewhere_dir.path().join("libnvidia-ml.so.1");
    std::fs::copy(built_library(), &copy).unwrap();
    let found = elsewhere(&sim, "count MIG devices", |command| {
        command.env(LIBRARY, &copy).env("GPUSIM_NODE", sim.path());
    });
    assert_eq!(found, "0");
}
