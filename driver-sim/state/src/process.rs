//! Processes: start time and liveness from `/proc/<pid>/stat`, across PID namespaces where that can be told.
//!
//! A client in a container knows itself by its own namespace's number. A reader in the same namespace checks that
//! number; a reader in the initial namespace looks for the process by its `NSpid`; any other reader cannot tell and
//! leaves the client alone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use gpushared_driver_sim::{Client, Process};

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO` of the kernel).
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Start time of a process in clock ticks since boot, `None` if there is no such process or it is a zombie.
pub fn process_start_time(pid: u32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process of this namespace is alive: same id, same start time, not a zombie.
fn is_alive(process: Process) -> bool {
    process_start_time(process.pid) == Some(process.start_time)
}

/// Inode number of the PID namespace of this process; 0 where the kernel does not tell.
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// Path of this process's cgroup (v2) as its cgroup namespace shows it; `None` without cgroup v2.
pub fn own_cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// Whether the process of a client is alive, as far as this process can tell.
pub fn client_is_alive(client: &Client) -> bool {
    if client.pid_namespace == 0 {
        return is_alive(client.process());
    }
    match pid_namespace() {
        own if own == client.pid_namespace => is_alive(client.process()),
        INITIAL_NAMESPACE => is_alive_inside(client),
        _ => true,
    }
}

/// Looks through all processes for one of the client's namespace, number and start time.
fn is_alive_inside(client: &Client) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    processes.filter_map(Result::ok).any(|process| {
        let path = process.path();
        let namespace = fs::metadata(path.join("ns/pid")).map(|namespace| namespace.ino());
        namespace.is_ok_and(|inode| inode == client.pid_namespace)
            && fs::read_to_string(path.join("status"))
                .is_ok_and(|s| innermost_pid(&s) == Some(client.pid))
            && fs::read_to_string(path.join("stat"))
                .is_ok_and(|stat| start_time(&stat) == Some(client.start_time))
    })
}

/// The last number of the `NSpid` line: the process id in the innermost namespace.
fn innermost_pid(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Field 22 of a `stat` line, unless field 3 says zombie or dead. The second field, the name, may contain anything,
/// so counting starts behind its closing parenthesis.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use gpushared_driver_sim::Plain;

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time(line), Some(4242));
    }

    #[test]
    fn the_innermost_of_several_process_ids_is_the_last() {
        assert_eq!(innermost_pid("Name:\tcat\nNSpid:\t4711\t12\t3\n"), Some(3));
        assert_eq!(innermost_pid("Name:\tcat\n"), None);
    }

    #[test]
    fn a_client_of_a_namespace_that_cannot_be_looked_into_is_left_alone() {
        let own = pid_namespace();
        let dead = Client {
            pid: 1,
            start_time: u64::MAX,
            ..Plain::ZERO
        };
        assert!(!client_is_alive(&dead), "of the reader's namespace");
        assert!(!client_is_alive(&Client {
            pid_namespace: own,
            ..dead
        }));
        let foreign = Client {
            pid_namespace: 1,
            ..dead
        };
        assert_eq!(client_is_alive(&foreign), own != INITIAL_NAMESPACE);
    }

    #[test]
    fn a_zombie_is_dead() {
        let line = "7 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time(line), None);
    }

    #[test]
    fn this_process_is_alive_under_its_own_start_time_only() {
        let pid = std::process::id();
        let start_time = process_start_time(pid).unwrap();
        assert!(is_alive(Process { pid, start_time }));
        assert!(!is_alive(Process {
            pid,
            start_time: start_time + 1
        }));
    }
}
