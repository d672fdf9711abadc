//! The calls that go to the daemon, whatever it does with them.

use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreStartContainerRequest, PreferredAllocationRequest,
};
use tonic::Code;

use crate::fixture::{Mood, Plugin, gpu, mig};
use crate::until;

fn allocate(containers: &[&[String]]) -> AllocateRequest {
    AllocateRequest {
        container_requests: containers
            .iter()
            .map(|ids| ContainerAllocateRequest {
                devices_ids: ids.to_vec(),
            })
            .collect(),
    }
}

fn prefer(available: &[String], size: i32) -> PreferredAllocationRequest {
    PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_i_ds: available.to_vec(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: size,
        }],
    }
}

#[tokio::test]
async fn each_container_is_answered_and_an_empty_request_is_too() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut client = plugin.client("mig-1g.10gb").await;
    let answer = client
        .allocate(allocate(&[&[mig(1), mig(0), mig(1)], &[]]))
        .await
        .expect("granted")
        .into_inner();
    assert_eq!(answer.container_responses.len(), 2);
    let both = format!("{},{}", mig(0), mig(1));
    assert_eq!(answer.container_responses[0].envs["IDS"], both);
    assert!(answer.container_responses[1].envs.is_empty());
    let answer = client.allocate(allocate(&[])).await.expect("granted");
    assert!(answer.into_inner().container_responses.is_empty());
    client
        .pre_start_container(PreStartContainerRequest {
            devices_ids: vec![mig(0)],
        })
        .await
        .expect("ready");
}

#[tokio::test]
async fn ids_that_are_not_of_this_resource_are_refused_with_their_owner() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut client = plugin.client("mig-1g.10gb").await;
    for (id, says) in [
        ("nonsense".to_owned(), "nonsense"),
        (mig(6), "not a device of nvidia.com/mig-1g.10gb"),
        (gpu(), "a device of nvidia.com/gpu"),
    ] {
        let request = allocate(&[&[mig(0)], std::slice::from_ref(&id)]);
        let status = client.allocate(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{status}");
        let status = client
            .pre_start_container(PreStartContainerRequest {
                devices_ids: vec![id],
            })
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_daemon_that_hangs_panics_or_refuses_is_answered_for() {
    for (mood, code) in [
        (Mood::Hangs, Code::DeadlineExceeded),
        (Mood::Panics, Code::Internal),
        (Mood::Refuses, Code::Aborted),
    ] {
        let mut plugin = Plugin::start(mood);
        let mut client = plugin.client("mig-1g.10gb").await;
        // Twice: the first failure leaves the service as it was.
        for _ in 0..2 {
            let request = allocate(&[&[mig(0)]]);
            let status = client.allocate(request).await.expect_err("not granted");
            assert_eq!(status.code(), code, "{mood:?}: {status}");
        }
        let request = PreStartContainerRequest {
            devices_ids: vec![mig(0)],
        };
        let status = client.pre_start_container(request).await;
        assert_eq!(status.expect_err("not ready").code(), code, "{mood:?}");
        // A hint that fails would fail the pod.
        let answer = client
            .get_preferred_allocation(prefer(&[mig(1), mig(0)], 1))
            .await
            .expect("always answered")
            .into_inner();
        assert_eq!(answer.container_responses[0].device_i_ds, [mig(0)]);
        plugin.stop().await.expect("a clean end");
    }
}

#[tokio::test]
async fn the_daemons_preference_is_passed_on_and_an_impossible_size_means_all() {
    let mut plugin = Plugin::start(Mood::Grants);
    let mut client = plugin.client("mig-1g.10gb").await;
    for (size, chosen) in [(1, vec![mig(1)]), (5, vec![mig(0), mig(1)]), (-1, vec![])] {
        let answer = client
            .get_preferred_allocation(prefer(&[mig(0), mig(1)], size))
            .await
            .expect("answered")
            .into_inner();
        assert_eq!(answer.container_responses[0].device_i_ds, chosen);
    }
}

#[tokio::test]
async fn a_call_in_flight_is_answered_before_the_end() {
    let mut plugin = Plugin::start(Mood::Hangs);
    let mut client = plugin.client("mig-1g.10gb").await;
    let mut asked = plugin.asked.clone();
    let pending = tokio::spawn(async move { client.allocate(allocate(&[&[mig(0)]])).await });
    until(&mut asked, "the call arrives", |asked| *asked == 1).await;
    plugin.stop().await.expect("a clean end");
    let status = pending.await.expect("no panic").expect_err("not granted");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}
