//! Two daemons on one node, as in an update that starts the new one before it stops the old one.

use std::time::Duration;

use crate::case::case;
use crate::daemon::{Node, Strategy, daemon};
use crate::gpus::MIG;
use crate::pods::pod;
use crate::wait::throughout;

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_second_daemon_waits_and_takes_over() {
    case("a_second_daemon_waits_and_takes_over", |setting| {
        let mut node = Node::boot(setting, Strategy::Cdi);
        node.machine.run(&pod("p").with(MIG, 1));
        let before = node.machine.incarnation("p");

        let dir = node.machine.dir.clone();
        let mut second = daemon(setting, &dir, &node.gpus, Strategy::Cdi, "gpushared-second");
        second.start();
        // Two instances that register both would take each other's streams down
        // (facts of the kubelet: the end of the old stream disconnects the new plugin).
        let full = node.machine.allocatable(MIG);
        throughout(
            "one daemon serves, one waits",
            Duration::from_secs(3),
            || {
                second.check_alive();
                node.daemon.check_alive();
                let now = node.machine.allocatable(MIG);
                (now != full).then(|| format!("{now:?}"))
            },
        );

        node.daemon.kill_9();
        node.daemon = second;
        node.until_all_offered();
        node.machine.goes_on("p", &before);
        node.machine.run(&pod("later").with(MIG, 1));
    });
}
