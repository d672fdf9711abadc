//! What is published: lists for the front end, the view for the watches, the status for operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpushared_device_plugin::{DeviceLists, ListedDevice, RegistrationState, RegistrationStatus};
use gpushared_domain::resource::ResourceName;
use gpushared_domain::status::{DaemonStatus, NodeStatus};

use super::Reconciler;

impl Reconciler {
    pub(super) fn publish(&self) {
        let resources: BTreeMap<ResourceName, Vec<ListedDevice>> = self
            .node
            .lists()
            .into_iter()
            .map(|(resource, devices)| {
                let devices = devices
                    .into_iter()
                    .map(|(id, healthy, numa_node)| ListedDevice {
                        id,
                        healthy,
                        numa_node,
                    })
                    .collect();
                (resource, devices)
            })
            .collect();
        self.channels.lists_tx.send_if_modified(|lists| {
            if lists.resources == resources {
                return false;
            }
            *lists = Arc::new(DeviceLists {
                generation: lists.generation + 1,
                repeat: lists.repeat,
                resources,
            });
            true
        });
        let gpus = self.node.gpus();
        let leased = self.node.leases.iter().next().is_some();
        self.channels.view_tx.send_if_modified(|view| {
            let changed = view.gpus != gpus || view.leased != leased;
            view.gpus = gpus;
            view.leased = leased;
            changed
        });
    }

    /// Has the kubelet write its checkpoint.
    pub(super) fn repeat_lists(&self) {
        self.channels
            .lists_tx
            .send_modify(|lists| Arc::make_mut(lists).repeat += 1);
    }

    pub(super) fn status(&self) -> NodeStatus {
        let registrations = self.channels.registrations_rx.borrow().clone();
        let waiting_for = self.waiting_for(&registrations);
        let registered = |name: &ResourceName| {
            registrations
                .resources
                .get(name)
                .is_some_and(|registration| {
                    matches!(registration.state, RegistrationState::Registered { .. })
                })
        };
        NodeStatus {
            version: 1,
            daemon: DaemonStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_at: self.started_at,
                generation: self.channels.lists_tx.borrow().generation,
                ready: waiting_for.is_empty(),
                waiting_for,
                device_list_strategy: self.config.strategy.to_string(),
            },
            driver: self
                .node
                .inventory()
                .map(|inventory| inventory.driver.clone()),
            gpus: self.node.gpu_statuses(),
            resources: self.node.resource_statuses(registered),
            left_out: self.node.offers().left_out.clone(),
        }
    }

    fn waiting_for(&self, registrations: &RegistrationStatus) -> Vec<String> {
        let mut waiting: Vec<String> = self
            .driver_trouble
            .iter()
            .map(|trouble| format!("driver: {trouble}"))
            .collect();
        for resource in self.node.resources() {
            let why = match registrations
                .resources
                .get(resource)
                .map(|entry| &entry.state)
            {
                Some(RegistrationState::Registered { .. }) => continue,
                Some(RegistrationState::WaitingForKubelet { why }) => why.clone(),
                Some(RegistrationState::Failed { error }) => error.clone(),
                Some(RegistrationState::Registering) | None => "being registered".to_owned(),
            };
            waiting.push(format!("{resource}: {why}"));
        }
        waiting
    }
}
