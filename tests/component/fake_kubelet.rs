//! The fake kubelet, judged on the reference plugin: it must accept a good plugin, behave as the real
//! kubelet was seen to, and catch each kind of bad plugin that it is there to catch.

mod admission;
mod allocation;
mod containers;
mod lists;
mod pod_resources;
mod registration;
mod restart;
mod topology;

use gpushared_tests::{FakeKubelet, NodeDirs, Rpc};

use crate::reference_plugin::{ReferencePlugin, devices};

const GPU: &str = "example.com/gpu";

/// A node, its kubelet and a plugin with `count` devices `gpu0`, `gpu1`, …, registered.
async fn node_with(count: usize) -> (NodeDirs, FakeKubelet, ReferencePlugin) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet())
        .cdi_dir(node.cdi())
        .start()
        .await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", count));
    kubelet.wait_for_allocatable(GPU, count).await;
    (node, kubelet, plugin)
}

/// The device IDs of every successful or failed call of `wanted`, in order.
fn calls(kubelet: &FakeKubelet, wanted: Rpc) -> Vec<Vec<String>> {
    let events = kubelet.events().into_iter();
    let of = |event| match event {
        gpushared_tests::Event::Called { rpc, devices, .. } if rpc == wanted => Some(devices),
        _ => None,
    };
    events.filter_map(of).collect()
}
