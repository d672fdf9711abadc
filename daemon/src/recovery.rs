//! What an earlier life left, and what is done when it left nothing.

use std::collections::BTreeSet;
use std::path::Path;

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::foreign_id::MigPlaces;
use gpushared_domain::node::Node;
use gpushared_domain::slice::SliceKind;
use gpushared_host::kubelet_checkpoint::Checkpoint;
use gpushared_host::pod_resources::PodResourcesClient;
use gpushared_host::{boot_id, kubelet_checkpoint};

use crate::config::Config;
use crate::durable::{Durable, Recovered};
use crate::grants::Grants;
use crate::telemetry::Chain;

/// Says loudly what happened to the journal; says whether leases must be rebuilt.
pub(crate) fn tell_faults(recovered: &Recovered) -> bool {
    if let Some(fault) = &recovered.fault {
        for copy in &fault.damaged {
            tracing::error!(
                path = %copy.path.display(),
                kept_as = %copy.moved_to.display(),
                damage = %copy.damage,
                rebuilt_from = if recovered.is_empty { "hardware and PodResources" } else { "the other copy" },
                "The journal was damaged"
            );
        }
    }
    recovered.is_empty
}

/// The node's state under this boot.
pub(crate) fn new_node(config: &Config, recovered: Recovered) -> Node {
    let mut health = recovered.health;
    match boot_id::read(Path::new("/proc")) {
        Ok(boot_id) => health.boot(&boot_id),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "Boot id unknown: a reboot will not end health conditions");
        }
    }
    Node::new(
        config.offers.clone(),
        recovered.leases,
        health,
        recovered.resources,
    )
}

/// There is no journal: who holds what is asked of the kubelet.
pub(crate) async fn ask_pods(pods: &PodResourcesClient, node: &mut Node, now: u64) {
    match pods.list(node.resources()).await {
        Ok(holdings) => {
            let in_use = holdings.places(node);
            if node.adopt(now, &in_use) {
                tracing::warn!(leases = in_use.len(), "Leases rebuilt from PodResources");
            }
        }
        Err(error) => {
            tracing::info!(error = %Chain(&error), "No journal and no PodResources: leases are found later");
        }
    }
}

/// Leases and grants that the kubelet's own record has and the journal has not: all of them where there is no journal,
/// and after a power cut those of its last moments. What is in the record and over ends by observation.
pub(crate) fn heed_kubelets_record(
    config: &Config,
    node: &mut Node,
    durable: &mut Durable,
    now: u64,
) {
    let prefix = Grants::name_prefix();
    for entry in kubelets_record(config).entries {
        // an ID of MIG is nobody's but ours; that of a GPU may be another plugin's
        let is_ours = |id: &PluginDeviceId| id.place().kind() == SliceKind::Mig;
        if node.resources().contains(&entry.resource) || entry.ids.iter().all(is_ours) {
            for id in &entry.ids {
                node.remember(now, id, &entry.resource);
            }
        }
        let grants = entry
            .cdi_devices
            .iter()
            .filter_map(|name| name.strip_prefix(prefix.as_str()));
        for grant in grants.filter_map(|text| text.parse().ok()) {
            node.leases.add_grant(&entry.ids, &grant);
            durable.grants.insert(grant, entry.ids.clone());
        }
    }
    durable
        .grants
        .retain(|grant, _| node.leases.holds_grant(grant));
}

/// Places that the kubelet's record binds to pods.
pub(crate) fn bound_places(config: &Config, migs: &MigPlaces) -> BTreeSet<PluginDeviceId> {
    let record = kubelets_record(config);
    let ours = record.entries.into_iter().flat_map(|entry| entry.ids);
    let foreign = record.foreign.iter().filter_map(|id| migs.find(id));
    ours.chain(foreign).collect()
}

/// What the kubelet's checkpoint says of our devices; nothing where it cannot be read, since it is a hint.
fn kubelets_record(config: &Config) -> Checkpoint {
    let path = config
        .kubelet
        .device_plugins
        .join(kubelet_checkpoint::FILE_NAME);
    match kubelet_checkpoint::read(&path) {
        Ok(checkpoint) => checkpoint.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "The kubelet's checkpoint cannot be read as a hint");
            Checkpoint::default()
        }
    }
}

/// CDI files that an earlier life left without a grant.
pub(crate) fn remove_orphans(grants: &Grants, node: &Node, durable: &Durable) {
    if node.leases.iter().any(|lease| lease.grants.is_empty()) {
        // adopted without its grants, so any of the files may be what its container starts with
        tracing::info!(
            "CDI files without a grant stay while it is not known which of them pods use"
        );
        return;
    }
    match grants.remove_all_but(|grant| durable.grants.contains_key(grant)) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "CDI files without a grant removed"),
        Err(error) => tracing::warn!(error = %Chain(&error), "CDI directory not cleaned"),
    }
}
