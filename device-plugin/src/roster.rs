//! What a resource has ever listed: the last guard against crashing the kubelet.
//!
//! The daemon promises that a list never loses an ID. Should it break that promise, the kubelet (1.36) dereferences
//! a missing entry and takes the node down. So whatever was listed once is listed for ever, as unhealthy if need be.
//! The order is that of first appearance.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::resource::ResourceName;
use tracing::error;

use crate::lists::{ListedDevice, MAX_DEVICES_PER_RESOURCE};

/// All devices that one resource has listed.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: Vec<ListedDevice>,
    complained: bool,
}

impl Roster {
    /// The list to send: `listed`, completed, in stable order, and short enough for one message.
    pub(crate) fn complete(
        &self,
        resource: &ResourceName,
        listed: &[ListedDevice],
    ) -> Vec<ListedDevice> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Backwards, so that the first of two entries for one ID counts.
        let mut rest: BTreeMap<&PluginDeviceId, &ListedDevice> = listed
            .iter()
            .rev()
            .map(|device| (&device.id, device))
            .collect();
        let mut lost = 0_usize;
        for known in &mut inner.known {
            if let Some(device) = rest.remove(&known.id) {
                known.clone_from(device);
            } else {
                lost += 1;
                known.healthy = false;
            }
        }
        let mut left_out = 0_usize;
        for device in listed {
            if rest.remove(&device.id).is_none() {
                continue;
            }
            if inner.known.len() < MAX_DEVICES_PER_RESOURCE {
                inner.known.push(device.clone());
            } else {
                left_out += 1;
            }
        }
        if lost + left_out > 0 && !inner.complained {
            inner.complained = true;
            error!(%resource, lost, left_out, "The daemon's list broke its promises, what was listed stays listed");
        }
        inner.known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(start: usize, healthy: bool) -> ListedDevice {
        ListedDevice {
            id: format!("GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/mig/19@{start}")
                .parse()
                .expect("valid"),
            healthy,
            numa_node: Some(1),
        }
    }

    fn resource() -> ResourceName {
        "nvidia.com/gpu".parse().expect("valid")
    }

    #[test]
    fn an_id_that_the_daemon_forgets_stays_listed_as_unhealthy() {
        let roster = Roster::default();
        roster.complete(&resource(), &[device(0, true), device(1, true)]);
        assert_eq!(
            roster.complete(&resource(), &[device(1, true)]),
            [device(0, false), device(1, true)]
        );
        assert_eq!(
            roster.complete(&resource(), &[device(1, false), device(0, true)]),
            [device(0, true), device(1, false)]
        );
    }

    #[test]
    fn an_id_that_is_listed_twice_is_sent_once() {
        let roster = Roster::default();
        assert_eq!(
            roster.complete(&resource(), &[device(0, true), device(0, false)]),
            [device(0, true)]
        );
    }

    #[test]
    fn a_list_never_outgrows_a_message() {
        let roster = Roster::default();
        let many: Vec<ListedDevice> = (0..=MAX_DEVICES_PER_RESOURCE)
            .map(|start| device(start, true))
            .collect();
        assert_eq!(
            roster.complete(&resource(), &many).len(),
            MAX_DEVICES_PER_RESOURCE
        );
    }
}
