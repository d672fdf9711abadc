//! Processes: start time and liveness from `/proc/<pid>/stat`.

use std::fs;

use gpushared_driver_sim::Process;

/// Start time of a process in clock ticks since boot, `None` if there is no such process or it is a zombie.
pub fn process_start_time(pid: u32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether the process of a client is alive: same id, same start time, not a zombie.
pub fn is_alive(process: Process) -> bool {
    process_start_time(process.pid) == Some(process.start_time)
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
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time(line), Some(4242));
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
