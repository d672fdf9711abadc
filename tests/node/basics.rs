//! The cluster itself, without the daemon: if this fails, the other cases say nothing.

use crate::case::case;
use crate::machine::Machine;
use crate::pods::pod;

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_pod_without_a_gpu_runs_on_the_cluster() {
    case("a_pod_without_a_gpu_runs_on_the_cluster", |setting| {
        let machine = Machine::boot(setting);
        let inside = machine.run(&pod("plain"));
        assert!(inside.devices.is_empty(), "{:?}", inside.devices);
        machine.delete("plain");
    });
}
