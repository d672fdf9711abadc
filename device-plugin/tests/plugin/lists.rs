//! What ListAndWatch sends.

use crate::fixture::{GPU, MIG, Mood, Plugin, device, gpu, mig};
use crate::kubelet::Kubelet;
use crate::until;

fn health(list: &[gpushared_proto::deviceplugin::v1beta1::Device]) -> Vec<(String, &str)> {
    list.iter()
        .map(|device| (device.id.clone(), device.health.as_str()))
        .collect()
}

#[tokio::test]
async fn only_the_resource_that_changed_is_sent_and_ids_never_vanish() {
    let plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    until(&mut kubelet.view, "both are listed", |view| {
        view.len() == 2 && view.values().all(|known| known.lists.len() == 1)
    })
    .await;
    let first = kubelet.view.borrow()[MIG].lists[0].clone();
    assert_eq!(health(&first), [(mig(0), "Healthy"), (mig(1), "Healthy")]);
    let topology = first[0].topology.as_ref().expect("NUMA");
    assert_eq!(topology.nodes[0].id, 1);

    plugin.publish(MIG, vec![device(&mig(2), true), device(&mig(1), true)]);
    until(&mut kubelet.view, "the change arrives", |view| {
        view[MIG].lists.len() == 2
    })
    .await;
    plugin.publish(GPU, vec![device(&gpu(), false)]);
    let view = until(&mut kubelet.view, "the other arrives", |view| {
        view[GPU].lists.len() == 2
    })
    .await;
    assert_eq!(view[MIG].lists.len(), 2, "nothing was sent for MIG");
    assert_eq!(
        health(&view[MIG].lists[1]),
        [
            (mig(0), "Unhealthy"),
            (mig(1), "Healthy"),
            (mig(2), "Healthy")
        ]
    );
}

#[tokio::test]
async fn a_burst_of_updates_is_sent_as_a_few_and_the_last_one_wins() {
    let plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    until(&mut kubelet.view, "both are listed", |view| {
        view.len() == 2 && view.values().all(|known| known.lists.len() == 1)
    })
    .await;
    for round in 0..1000 {
        let healthy = round % 2 == 1;
        plugin.publish(MIG, vec![device(&mig(0), false), device(&mig(1), healthy)]);
        tokio::task::yield_now().await;
    }
    let view = until(&mut kubelet.view, "the last one arrives", |view| {
        health(view[MIG].lists.last().expect("listed"))
            == [(mig(0), "Unhealthy"), (mig(1), "Healthy")]
    })
    .await;
    assert!(view[MIG].lists.len() < 20, "{}", view[MIG].lists.len());
}
