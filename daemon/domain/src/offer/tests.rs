use super::fixture::{gpu, instance, inventory, policy};
use super::*;

fn ids(offers: &Offers, resource: &str) -> Vec<String> {
    let name = resource.parse().expect("valid");
    offers
        .resources
        .get(&name)
        .into_iter()
        .flatten()
        .map(|slice| slice.id.to_string())
        .collect()
}

#[test]
fn a_gpu_with_mig_on_is_never_offered_whole() {
    let node = inventory(vec![
        gpu(0, MigMode::Disabled, vec![]),
        gpu(1, MigMode::Enabled, vec![instance(2, 0, &[3])]),
        gpu(2, MigMode::Enabled, vec![]),
        gpu(3, MigMode::Pending { enabled: true }, vec![]),
        gpu(4, MigMode::Unsupported, vec![]),
    ]);
    let offers = offers(&node, &policy());
    assert_eq!(
        ids(&offers, "nvidia.com/gpu"),
        [
            "GPU-00000000-0000-0000-0000-000000000000",
            "GPU-00000000-0000-0000-0000-000000000004"
        ]
    );
    assert_eq!(
        ids(&offers, "nvidia.com/mig-3g.40gb"),
        ["GPU-00000000-0000-0000-0000-000000000001/mig/9@0"]
    );
    let left_out: Vec<_> = offers
        .left_out
        .iter()
        .map(|left| left.why.as_str())
        .collect();
    assert_eq!(
        left_out,
        [
            "MIG mode is on and there is no instance",
            "MIG mode will be on after a reset of the GPU or a reboot"
        ]
    );
}

#[test]
fn split_and_empty_instances_are_left_out_and_the_rest_is_served() {
    let node = inventory(vec![gpu(
        0,
        MigMode::Enabled,
        vec![instance(1, 0, &[1, 2]), instance(2, 4, &[3])],
    )]);
    let offers = offers(&node, &policy());
    assert_eq!(ids(&offers, "nvidia.com/mig-3g.40gb").len(), 1);
    assert!(offers.left_out[0].why.contains("2 compute instance(s)"));

    let node = inventory(vec![gpu(0, MigMode::Enabled, vec![instance(1, 0, &[])])]);
    assert!(
        super::offers(&node, &policy()).left_out[0]
            .why
            .contains("no compute instance")
    );
}

#[test]
fn the_id_is_the_place_whatever_the_driver_calls_the_instance() {
    let before = inventory(vec![gpu(0, MigMode::Enabled, vec![instance(1, 4, &[3])])]);
    let after = inventory(vec![gpu(0, MigMode::Enabled, vec![instance(2, 4, &[3])])]);
    let (before, after) = (offers(&before, &policy()), offers(&after, &policy()));
    assert_eq!(
        ids(&before, "nvidia.com/mig-3g.40gb"),
        ids(&after, "nvidia.com/mig-3g.40gb")
    );
}

#[test]
fn excluded_gpus_and_kinds_are_said() {
    let node = inventory(vec![
        gpu(0, MigMode::Disabled, vec![]),
        gpu(1, MigMode::Enabled, vec![]),
    ]);
    let none = OfferPolicy {
        gpu: None,
        mig_domain: None,
        excluded: BTreeSet::new(),
    };
    let nothing = offers(&node, &none);
    assert!(nothing.resources.is_empty());
    assert_eq!(nothing.left_out.len(), 2);

    let without_first = OfferPolicy {
        excluded: [node.gpus[0].facts.uuid.clone()].into(),
        ..policy()
    };
    let offered = offers(&node, &without_first);
    assert!(ids(&offered, "nvidia.com/gpu").is_empty());
    assert_eq!(offered.left_out[0].why, "excluded by the configuration");
}

#[test]
fn an_excluded_gpu_that_the_node_does_not_have_is_said() {
    let node = inventory(vec![gpu(0, MigMode::Disabled, vec![])]);
    let stranger = gpu(7, MigMode::Disabled, vec![]).facts.uuid;
    let policy = OfferPolicy {
        excluded: [stranger.clone()].into(),
        ..policy()
    };
    let offered = offers(&node, &policy);
    assert_eq!(offered.left_out.len(), 1);
    assert_eq!(offered.left_out[0].what, stranger.to_string());
    assert!(offered.left_out[0].why.contains("not a GPU of this node"));
}
