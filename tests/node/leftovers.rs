//! What a node that was killed leaves behind: processes, mounts, cgroups, sockets.
//!
//! The run's own namespaces end all processes and mounts with it; this is for the time between two
//! cases, and for a node that loses its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait::{Look, until};

/// Kills every process in the cgroup and every process that was started for `dir`: containers
/// first of all, then their shims.
pub(crate) fn kill(cgroup: &str, dir: &Path) {
    let dir = dir.display().to_string() + "/";
    until(
        "the node's processes to be gone",
        Duration::from_secs(20),
        || {
            let left = processes(cgroup, &dir);
            if left.is_empty() {
                return Look::Found(());
            }
            let pids: Vec<String> = left.iter().map(u32::to_string).collect();
            drop(Command::new("kill").arg("-9").args(&pids).output());
            Look::NotYet(format!("{pids:?}"))
        },
    );
}

fn processes(cgroup: &str, dir: &str) -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").expect("/proc");
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let contained = String::from_utf8_lossy(&read("cgroup")).contains(cgroup);
            let started_for = String::from_utf8_lossy(&read("cmdline")).contains(dir);
            let dead = String::from_utf8_lossy(&read("stat")).contains(") Z ");
            (contained || started_for) && !dead
        })
        .collect()
}

/// Unmounts everything below the node's folder, the kubelet's folder and /run.
pub(crate) fn unmount(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = [dir, Path::new(crate::kubelet::ROOT), Path::new("/run")];
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .filter(|point| below.iter().any(|b| point.starts_with(b) && point != b))
        .collect();
    // The last mounted goes first.
    points.reverse();
    for point in points {
        drop(Command::new("umount").arg("-l").arg(point).output());
    }
}

/// Removes the cgroups of the pods in every hierarchy; the run's own stays.
pub(crate) fn remove_pod_cgroups(cgroup: &str) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        remove_below(&hierarchy.path().join(cgroup));
    }
    remove_below(&Path::new("/sys/fs/cgroup").join(cgroup));
}

fn remove_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&entry.path());
            drop(fs::remove_dir(entry.path()));
        }
    }
}

/// Removes everything in a folder, but not the folder.
pub(crate) fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            drop(fs::remove_dir_all(path));
        } else {
            drop(fs::remove_file(path));
        }
    }
}

/// Gives the machine a new boot id, as every start of a kernel does. The file is mounted over the
/// kernel's by the run's namespace.
pub(crate) fn new_boot_id(dir: &Path) {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a random UUID");
    fs::write(dir.join("boot_id"), id).expect("the boot id");
}
