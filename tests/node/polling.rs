//! The daemon as a guest of the PodResources socket, whose rate limit all its callers share.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::case::{case, figure};
use crate::daemon::{Node, Strategy};
use crate::gpus::MIG;
use crate::pods::pod;
use crate::wait::{Look, until};

/// More than this and the daemon would be a burden: the limit is a burst of 10 and 100 a second
/// for all callers together.
const PER_SECOND: f64 = 2.0;

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn polling_stays_far_below_the_rate_limit() {
    case("polling_stays_far_below_the_rate_limit", |setting| {
        let mut node = Node::boot(setting, Strategy::Cdi);
        node.machine.run(&pod("p").with(MIG, 1));
        let start = Instant::now();
        let first = list_calls();
        let calls = until("six seconds of polling", Duration::from_secs(10), || {
            if start.elapsed() < Duration::from_secs(6) {
                Look::NotYet("less".to_owned())
            } else {
                Look::Found(list_calls() - first)
            }
        });
        let rate = calls / start.elapsed().as_secs_f64();
        figure(&format!("{rate:.2} List calls a second"));
        assert!(
            calls > 0.0,
            "the daemon does not look at PodResources at all"
        );
        assert!(rate <= PER_SECOND, "{rate:.1} calls a second");
        assert!(
            !node.daemon.log().contains("rate limit"),
            "the daemon was refused"
        );
        node.daemon.check_alive();
    });
}

/// The kubelet's own count of List calls.
fn list_calls() -> f64 {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "https://127.0.0.1:10250/metrics"])
        .output()
        .expect("curl starts");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with("kubelet_pod_resources_endpoint_requests_list{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
