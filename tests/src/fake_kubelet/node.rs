//! The node object as the cluster sees it, and the device table behind it.
//!
//! A look publishes first, as one turn of the node status loop would (every 10 s on a real node).
//! Capacity counts healthy and unhealthy devices, allocatable the healthy ones; a resource that was
//! never registered is absent, one whose plugin is gone for long stays with 0.

use std::collections::{BTreeMap, BTreeSet};

use super::FakeKubelet;
use crate::wait::{PATIENCE, look_within};

impl FakeKubelet {
    /// Capacity of `resource`; `None` when the node does not know it.
    #[must_use]
    pub fn capacity(&self, resource: &str) -> Option<usize> {
        self.counts(resource).map(|(capacity, _)| capacity)
    }

    /// Allocatable of `resource`; `None` when the node does not know it.
    #[must_use]
    pub fn allocatable(&self, resource: &str) -> Option<usize> {
        self.counts(resource).map(|(_, allocatable)| allocatable)
    }

    /// Waits until allocatable of `resource` is `count`.
    ///
    /// # Panics
    /// When it is not within the patience of the harness.
    pub async fn wait_for_allocatable(&self, resource: &str, count: usize) {
        let reached = || (self.allocatable(resource) == Some(count)).then_some(());
        assert!(
            look_within(PATIENCE, reached).await.is_some(),
            "waited {} s in vain for {count} allocatable {resource}: {:?} of {:?}; last events {:#?}",
            PATIENCE.as_secs(),
            self.allocatable(resource),
            self.capacity(resource),
            self.events().iter().rev().take(5).collect::<Vec<_>>(),
        );
    }

    /// The names of all resources on the node, those with 0 included.
    #[must_use]
    pub fn resources(&self) -> BTreeSet<String> {
        if let Some(process) = self.process() {
            process.publish_node_status();
        }
        self.world.lock().node.keys().cloned().collect()
    }

    /// ID and health of every listed device of `resource`. After a plugin is lost the kubelet keeps
    /// the health of the last list here, although it counts every device as unhealthy.
    #[must_use]
    pub fn devices(&self, resource: &str) -> BTreeMap<String, String> {
        let Some(process) = self.process() else {
            return BTreeMap::new();
        };
        let manager = process.manager();
        let all = manager.all.get(resource).into_iter().flatten();
        all.map(|(id, device)| (id.clone(), device.health.clone()))
            .collect()
    }

    /// IDs of `resource` that the kubelet counts as healthy.
    #[must_use]
    pub fn healthy(&self, resource: &str) -> BTreeSet<String> {
        let Some(process) = self.process() else {
            return BTreeSet::new();
        };
        process
            .manager()
            .healthy
            .get(resource)
            .cloned()
            .unwrap_or_default()
    }

    /// IDs of `resource` that the kubelet counts as allocated. Those of ended pods stay until the
    /// next admission or `PodResources` call.
    #[must_use]
    pub fn allocated(&self, resource: &str) -> BTreeSet<String> {
        let Some(process) = self.process() else {
            return BTreeSet::new();
        };
        process
            .manager()
            .allocated
            .get(resource)
            .cloned()
            .unwrap_or_default()
    }

    fn counts(&self, resource: &str) -> Option<(usize, usize)> {
        if let Some(process) = self.process() {
            process.publish_node_status();
        }
        self.world.lock().node.get(resource).copied()
    }
}
