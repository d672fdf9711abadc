//! What the node offers.

use crate::case::case;
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, GPU_COUNT, MIG, MIG_COUNT};

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn the_node_offers_its_whole_gpus_and_its_mig_devices() {
    case(
        "the_node_offers_its_whole_gpus_and_its_mig_devices",
        |setting| {
            let node = Node::boot(setting, Strategy::Cdi);
            assert_eq!(node.machine.capacity(GPU), Some(GPU_COUNT));
            assert_eq!(node.machine.capacity(MIG), Some(MIG_COUNT));
        },
    );
}
