//! Several processes on one node: each test starts this test binary again as a child that runs one of the ignored
//! `child_…` tests, with the node's directory in an environment variable.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gpushared_driver_sim::{
    ClientKind, ClientSpec, Code, EventSet, GpuSlot, MigDevice, Node, NodeSpec, OwnedNode, Process,
    event,
};
use gpushared_driver_sim_state::{SharedNode, process_start_time};

const GPU: GpuSlot = GpuSlot::new(0);
const ROLE: &str = "GPUSIM_TEST_NODE";
const ROUNDS: u32 = 150;

fn shared() -> (tempfile::TempDir, SharedNode) {
    let dir = tempfile::tempdir().unwrap();
    let spec = NodeSpec::of(&["h100-80gb"], 1).unwrap();
    let mut node = OwnedNode::new(&spec).unwrap();
    node.set_mig_mode(GPU, 1, 0).unwrap();
    let shared = SharedNode::create(dir.path(), &node).unwrap();
    (dir, shared)
}

/// Starts this binary with one `child_…` test on the node; its words come through a pipe.
fn child(role: &str, dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([role, "--exact", "--ignored", "--nocapture", "--quiet"])
        .env(ROLE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The node of a child; `None` when this is the test run itself.
fn role() -> Option<SharedNode> {
    let dir = PathBuf::from(env::var_os(ROLE)?);
    Some(SharedNode::open(&dir).unwrap())
}

/// Waits for the line that the child says when it is ready.
fn ready(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("READY") {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the child ended early"
        );
    }
}

fn say_ready() {
    let mut out = std::io::stdout();
    writeln!(out, "READY").unwrap();
    out.flush().unwrap();
}

fn make(node: &mut Node) -> Result<MigDevice, Code> {
    let gi = node.create_gi(GPU, 19, None, 0)?;
    let ci = node.create_ci(GPU, gi, 0, None, 0)?;
    Ok(MigDevice { gpu: GPU, gi, ci })
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_makes_an_instance() {
    if let Some(shared) = role() {
        shared.with(make).unwrap().unwrap();
    }
}

#[test]
fn an_instance_of_another_process_is_seen_with_its_files() {
    let (dir, shared) = shared();
    assert!(
        child("child_makes_an_instance", dir.path())
            .wait()
            .unwrap()
            .success()
    );
    let devices: Vec<_> = shared
        .with(|node| node.gpu(GPU).unwrap().mig_devices(GPU).collect())
        .unwrap();
    let [device] = devices[..] else {
        panic!("{devices:?}")
    };
    let access = format!(
        "proc/driver/nvidia/capabilities/gpu0/mig/gi{}/ci0/access",
        device.gi
    );
    assert!(dir.path().join(access).exists());
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_dies_with_the_lock_in_the_middle_of_a_change() {
    if let Some(shared) = role() {
        shared
            .with(|node| {
                make(node).unwrap();
                node.gpus[0].gis[9].in_use = 1;
                node.gpus[0].gis[9].profile_id = 777;
                say_ready();
                // Until it is killed; at the end of its input, if whoever should kill it is gone.
                std::io::stdin().read_line(&mut String::new()).unwrap();
                std::process::abort()
            })
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_process_killed_while_it_holds_the_lock_is_recovered_from() {
    let (dir, shared) = shared();
    let generation = shared.with(|node| node.header.generation).unwrap();
    let mut holder = child(
        "child_dies_with_the_lock_in_the_middle_of_a_change",
        dir.path(),
    );
    ready(&mut holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (found, now) = shared
        .with(|node| {
            (
                node.gpu(GPU).unwrap().instances().count(),
                node.header.generation,
            )
        })
        .unwrap();
    assert_eq!(found, 1, "the whole instance is kept, the half one is not");
    assert!(now > generation);
    let again = SharedNode::open(dir.path()).unwrap();
    again.with(make).unwrap().unwrap();
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_makes_and_destroys_again_and_again() {
    if let Some(shared) = role() {
        for _ in 0..ROUNDS {
            if let Ok(device) = shared.with(make).unwrap() {
                shared
                    .with(|node| node.destroy_ci(device, 0))
                    .unwrap()
                    .unwrap();
                shared
                    .with(|node| node.destroy_gi(GPU, device.gi, 0))
                    .unwrap()
                    .unwrap();
            }
        }
    }
}

#[test]
fn processes_that_hammer_one_gpu_keep_its_invariants() {
    let (dir, shared) = shared();
    let role = "child_makes_and_destroys_again_and_again";
    let mut children = [child(role, dir.path()), child(role, dir.path())];
    while children
        .iter_mut()
        .any(|child| child.try_wait().unwrap().is_none())
    {
        shared
            .with(|node| {
                let gpu = node.gpu(GPU).unwrap();
                let mut slices = [false; 8];
                for gi in gpu.instances() {
                    for slice in gi.start..gi.start + gi.size {
                        assert!(!std::mem::replace(&mut slices[slice as usize], true));
                    }
                }
                assert!(gpu.instances().count() <= 2);
            })
            .unwrap();
    }
    assert!(
        children
            .iter_mut()
            .all(|child| child.wait().unwrap().success())
    );
    let counters = shared.with(|node| node.gpu(GPU).unwrap().counters).unwrap();
    assert_eq!(counters.gi_creates, counters.gi_destroys);
    assert_eq!(counters.gi_creates, u64::from(2 * ROUNDS));
    let root = dir.path().join("proc/driver/nvidia/capabilities/gpu0/mig");
    assert_eq!(
        std::fs::read_dir(root).unwrap().count(),
        0,
        "no capability file is left over"
    );
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_is_a_client_until_it_is_told_to_end() {
    if let Some(shared) = role() {
        let pid = std::process::id();
        let process = Process {
            pid,
            start_time: process_start_time(pid).unwrap(),
        };
        shared
            .with(|node| {
                let device = make(node)?;
                let spec = ClientSpec {
                    process,
                    kind: ClientKind::Compute,
                    gpu: GPU,
                    mig: Some((device.gi, device.ci)),
                    memory: 1 << 30,
                    busy_permille: 500,
                    name: "child",
                };
                node.register_client(&spec, 0)
            })
            .unwrap()
            .unwrap();
        say_ready();
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

#[test]
fn a_client_counts_as_long_as_its_process_lives() {
    let (dir, shared) = shared();
    let mut client = child("child_is_a_client_until_it_is_told_to_end", dir.path());
    ready(&mut client);
    let (used, device) = shared
        .with(|node| {
            let device = node.gpu(GPU).unwrap().mig_devices(GPU).next().unwrap();
            (node.memory(GPU).unwrap().used, device)
        })
        .unwrap();
    assert_eq!(used, 1 << 30);
    assert_eq!(
        shared.with(|node| node.destroy_ci(device, 0)).unwrap(),
        Err(Code::IN_USE)
    );
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(
        shared.with(|node| node.memory(GPU).unwrap().used).unwrap(),
        0
    );
    assert_eq!(
        shared.with(|node| node.destroy_ci(device, 0)).unwrap(),
        Ok(())
    );
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_forks_and_both_sides_go_on_with_one_mapping() {
    let Some(shared) = role() else { return };
    let before = shared.with(make).unwrap().unwrap();
    // SAFETY: the forked side only uses the mapping and files and leaves by `_exit`; no other thread of this test
    // binary holds a lock that it needs, since `--exact` runs this test alone.
    let forked = unsafe { libc::fork() };
    assert!(forked >= 0);
    if forked == 0 {
        let made = shared.with(make).is_ok_and(|made| made.is_ok());
        // SAFETY: ends the forked side without running what belongs to its parent.
        unsafe { libc::_exit(i32::from(!made)) };
    }
    let mut status = 0;
    // SAFETY: the status is a valid place for the answer.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert_eq!(status, 0);
    shared
        .with(|node| node.destroy_ci(before, 0))
        .unwrap()
        .unwrap();
}

#[test]
fn a_mapping_survives_a_fork() {
    let (dir, shared) = shared();
    let role = "child_forks_and_both_sides_go_on_with_one_mapping";
    assert!(child(role, dir.path()).wait().unwrap().success());
    let counters = shared.with(|node| node.gpu(GPU).unwrap().counters).unwrap();
    assert_eq!((counters.ci_creates, counters.ci_destroys), (2, 1));
}

#[test]
#[ignore = "run by a test of this file in a process of its own"]
fn child_injects_an_xid_when_told() {
    if let Some(shared) = role() {
        std::io::stdin().read_line(&mut String::new()).unwrap();
        shared
            .with(|node| node.inject_xid(GPU, 79, 0))
            .unwrap()
            .unwrap();
    }
}

#[test]
fn a_waiting_event_set_wakes_at_another_processes_injection() {
    let (dir, shared) = shared();
    let mut set = shared
        .with(|node| {
            let mut set = EventSet::new(node);
            set.register(node, GPU, event::XID).unwrap();
            set
        })
        .unwrap();
    let mut injector = child("child_injects_an_xid_when_told", dir.path());
    injector.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let event = loop {
        let seen = shared.change();
        if let Some(event) = shared.with(|node| set.poll(node)).unwrap() {
            break event;
        }
        assert!(
            shared.wait(seen, Duration::from_secs(60)),
            "woken, not timed out"
        );
    };
    assert_eq!(event.data, 79);
    assert!(injector.wait().unwrap().success());
}
