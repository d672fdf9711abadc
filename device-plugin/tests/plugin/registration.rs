//! When the front end registers, and when it does not.

use std::sync::Arc;

use gpushared_device_plugin::{
    DeviceLists, DevicePlugin, PluginError, PluginSettings, RegistrationState,
};
use tokio::sync::watch;

use crate::fixture::{Daemon, GPU, MIG, Mood, Plugin, device, gpu, mig};
use crate::kubelet::Kubelet;
use crate::until;

/// Both resources are listed at the kubelet, and it was asked `times` times for each.
async fn settled(kubelet: &mut Kubelet, times: usize) {
    until(&mut kubelet.view, "each resource has one stream", |view| {
        [GPU, MIG].iter().all(|resource| {
            view.get(*resource).is_some_and(|known| {
                known.live == 1 && known.registrations == times && known.lists.len() >= times
            })
        })
    })
    .await;
}

/// A change that is published now arrives; nobody registered meanwhile.
async fn nothing_more(plugin: &Plugin, kubelet: &mut Kubelet, times: usize) {
    for (resource, devices) in [
        (GPU, vec![device(&gpu(), false)]),
        (MIG, vec![device(&mig(0), false), device(&mig(1), false)]),
    ] {
        plugin.publish(resource, devices);
    }
    let view = until(&mut kubelet.view, "the change arrives", |view| {
        view.values().all(|known| {
            known
                .lists
                .last()
                .is_some_and(|list| list.iter().all(|device| device.health == "Unhealthy"))
        })
    })
    .await;
    for (resource, known) in view {
        assert_eq!((known.registrations, known.live), (times, 1), "{resource}");
    }
}

#[tokio::test]
async fn everything_that_is_listed_is_registered_once() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
    let view = kubelet.view.borrow().clone();
    assert!(view[GPU].options.pre_start_required);
    assert!(view[GPU].options.get_preferred_allocation_available);
    nothing_more(&plugin, &mut kubelet, 1).await;
    plugin.stop().await.expect("a clean end");
}

#[tokio::test]
async fn a_kubelet_that_is_killed_and_comes_back_is_registered_with_once() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut first = Kubelet::start(plugin.dir());
    settled(&mut first, 1).await;
    plugin.registered(1).await;
    first.kill();
    until(&mut plugin.status, "the loss is seen", |status| {
        !status.all_registered()
    })
    .await;
    let mut second = Kubelet::start(plugin.dir());
    settled(&mut second, 1).await;
    plugin.registered(2).await;
    nothing_more(&plugin, &mut second, 1).await;
    let status = plugin.status.borrow().clone();
    for (name, resource) in &status.resources {
        let took = resource.last_took.expect("registered");
        assert!(took.as_millis() < 1000, "{name} took {took:?}");
    }
}

#[tokio::test]
async fn a_kubelet_socket_that_is_created_again_is_registered_with_though_the_old_stream_lives() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut first = Kubelet::start(plugin.dir());
    settled(&mut first, 1).await;
    plugin.registered(1).await;
    let mut second = Kubelet::start(plugin.dir());
    settled(&mut second, 1).await;
    until(&mut first.view, "the old streams are ended", |view| {
        view.values().all(|known| known.live == 0)
    })
    .await;
    plugin.registered(2).await;
    nothing_more(&plugin, &mut second, 1).await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_followed_by_one_registration_of_that_resource() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
    kubelet.drop_plugin(MIG);
    let view = until(&mut kubelet.view, "it registers again", |view| {
        view[MIG].registrations == 2 && view[MIG].live == 1 && view[MIG].lists.len() == 2
    })
    .await;
    assert_eq!(view[GPU].registrations, 1);
}

#[tokio::test]
async fn a_socket_of_ours_that_vanishes_is_created_again_and_registered() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
    std::fs::remove_dir_all(plugin.dir().join("gpushared")).expect("our directory");
    settled(&mut kubelet, 2).await;
    plugin.registered(2).await;
    assert!(plugin.socket("gpu").exists());
    nothing_more(&plugin, &mut kubelet, 2).await;
}

#[tokio::test]
async fn the_kubelets_directory_may_come_later() {
    let mut plugin = Plugin::start_in(Mood::Grants, "lib/kubelet/device-plugins");
    let dir = plugin.dir().join("lib/kubelet/device-plugins");
    let waiting = |why: &'static str| {
        move |status: &Arc<gpushared_device_plugin::RegistrationStatus>| {
            !status.resources.is_empty()
                && status.resources.values().all(|resource| {
                    matches!(&resource.state,
                        RegistrationState::WaitingForKubelet { why: is } if is.contains(why))
                })
        }
    };
    until(&mut plugin.status, "it waits for it", waiting("directory")).await;
    std::fs::create_dir_all(&dir).expect("the directory");
    let socket = "kubelet.sock is missing";
    until(
        &mut plugin.status,
        "it waits for the socket",
        waiting(socket),
    )
    .await;
    assert!(dir.join("gpushared/gpu.sock").exists(), "it serves already");
    let mut kubelet = Kubelet::start(&dir);
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
}

#[tokio::test]
async fn a_resource_that_is_listed_later_is_registered_then() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
    plugin.publish("nvidia.com/mps-25pct.20gb", Vec::new());
    let view = until(&mut kubelet.view, "it is registered", |view| {
        view.get("nvidia.com/mps-25pct.20gb")
            .is_some_and(|known| known.lists.len() == 1)
    })
    .await;
    assert!(view.values().all(|known| known.registrations == 1));
    plugin.registered(1).await;
}

#[tokio::test]
async fn a_later_resource_that_cannot_be_served_fails_alone() {
    let mut plugin = Plugin::start(Mood::Grants);
    let too_long = format!("{0}.{0}.example.com/gpu", "d".repeat(60));
    plugin.publish(&too_long, Vec::new());
    let status = until(&mut plugin.status, "it fails", |status| {
        status.resources.values().any(|resource| {
            matches!(&resource.state,
                RegistrationState::Failed { error } if error.contains("107"))
        })
    })
    .await;
    assert_eq!(status.resources.len(), 3);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
}

#[tokio::test]
async fn shutdown_ends_the_streams_and_removes_the_sockets() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut kubelet = Kubelet::start(plugin.dir());
    settled(&mut kubelet, 1).await;
    plugin.registered(1).await;
    let sockets = [plugin.socket("gpu"), plugin.socket("mig-1g.10gb")];
    plugin.stop().await.expect("a clean end");
    until(&mut kubelet.view, "the streams end", |view| {
        view.values().all(|known| known.live == 0)
    })
    .await;
    assert!(sockets.iter().all(|socket| !socket.exists()));
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_at_construction() {
    let mut lists = DeviceLists::default();
    lists
        .resources
        .insert(MIG.parse().expect("a name"), Vec::new());
    let (_lists_tx, lists_rx) = watch::channel(Arc::new(lists));
    let settings = PluginSettings::new(format!("/{}", "d".repeat(90)));
    let error = DevicePlugin::new(settings, Arc::new(Daemon::new(Mood::Grants)), lists_rx)
        .expect_err("too long");
    assert!(
        matches!(error, PluginError::SocketPathTooLong { .. }),
        "{error}"
    );
}
