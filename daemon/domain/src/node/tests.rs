use super::*;
use crate::health::Probe;
use crate::lease::GrantId;
use crate::mig::MigMode;
use crate::offer::fixture::{gpu, instance, inventory, policy};
use crate::xid::XidTable;

const MIG: &str = "nvidia.com/mig-3g.40gb";
const GPU: &str = "nvidia.com/gpu";

fn name(text: &str) -> ResourceName {
    text.parse().expect("valid")
}

fn id(index: u32, rest: &str) -> PluginDeviceId {
    format!("GPU-00000000-0000-0000-0000-{index:012}{rest}")
        .parse()
        .expect("valid")
}

fn empty() -> Node {
    Node::new(
        policy(),
        LeaseTable::default(),
        HealthBook::default(),
        BTreeSet::new(),
    )
}

/// GPU 0 whole, GPU 1 cut into 3g@0 and 3g@4.
fn mixed() -> Node {
    let mut node = empty();
    node.observe(inventory(vec![
        gpu(0, MigMode::Disabled, vec![]),
        gpu(
            1,
            MigMode::Enabled,
            vec![instance(2, 0, &[3]), instance(1, 4, &[3])],
        ),
    ]));
    node
}

fn healthy(node: &Node, resource: &str) -> Vec<(String, bool)> {
    let lists = node.lists();
    let list = lists.get(&name(resource)).cloned().unwrap_or_default();
    list.into_iter()
        .map(|(id, healthy, _)| (id.to_string(), healthy))
        .collect()
}

#[test]
fn a_place_that_vanishes_stays_listed_as_unhealthy_and_comes_back() {
    let mut node = mixed();
    assert_eq!(
        healthy(&node, MIG)
            .iter()
            .filter(|(_, healthy)| *healthy)
            .count(),
        2
    );
    node.observe(inventory(vec![gpu(
        1,
        MigMode::Enabled,
        vec![instance(2, 0, &[3])],
    )]));
    let list = healthy(&node, MIG);
    assert_eq!(list.len(), 2);
    assert_eq!(list.iter().filter(|(_, healthy)| *healthy).count(), 1);
    assert_eq!(healthy(&node, GPU), [(id(0, "").to_string(), false)]);
    assert_eq!(
        node.why_unhealthy(&id(0, "")),
        ["the driver does not list its GPU"]
    );
    assert_eq!(
        node.why_unhealthy(&id(1, "/mig/9@4")),
        ["there is no such MIG device now"]
    );
    node.observe(mixed().inventory().expect("observed").clone());
    assert!(healthy(&node, MIG).iter().all(|(_, healthy)| *healthy));
}

#[test]
fn what_may_not_be_given_out_is_refused_with_the_reason() {
    let mut node = mixed();
    let refused = |node: &Node, resource: &str, ids: &[PluginDeviceId]| {
        node.may_allocate(&name(resource), ids)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&node, GPU, &[id(7, "")]).ends_with("is not a device of this node"));
    assert!(
        refused(&node, GPU, &[id(1, "/mig/9@0")]).ends_with("belongs to nvidia.com/mig-3g.40gb")
    );
    node.health.xid(
        5,
        id(1, "/mig/9@0").place().clone(),
        109,
        &XidTable::default(),
    );
    assert!(
        refused(&node, MIG, &[id(1, "/mig/9@0")]).ends_with("cannot be given out now: Xid 109")
    );
    assert!(
        node.may_allocate(&name(MIG), &[id(1, "/mig/9@4")])
            .is_ok_and(|found| found.len() == 1)
    );
    node.health
        .probe(6, id(1, "").place().gpu(), Probe::Lost, 60);
    assert!(refused(&node, MIG, &[id(1, "/mig/9@4")]).ends_with("GPU is lost"));
}

#[test]
fn a_leased_place_keeps_what_overlaps_it_from_being_given_out() {
    let mut node = mixed();
    let leased = id(1, "/mig/9@0");
    node.leases
        .reserve(
            1,
            &GrantId::new(1, 1),
            &name(MIG),
            std::slice::from_ref(&leased),
        )
        .expect("free");
    node.observe(inventory(vec![gpu(1, MigMode::Disabled, vec![])]));
    let whole = id(1, "");
    assert_eq!(
        node.why_unhealthy(&whole),
        ["GPU-00000000-0000-0000-0000-000000000001/mig/9@0 is in use on the same part of the GPU"]
    );
    node.leases.released(&leased);
    assert!(node.why_unhealthy(&whole).is_empty());
}

#[test]
fn leases_and_names_of_an_earlier_life_are_listed_before_the_hardware_answers() {
    let mut leases = LeaseTable::default();
    let held = id(3, "/mig/9@4");
    leases
        .reserve(
            1,
            &GrantId::new(1, 1),
            &name(MIG),
            std::slice::from_ref(&held),
        )
        .expect("free");
    let node = Node::new(
        policy(),
        leases,
        HealthBook::default(),
        [name("nvidia.com/mig-1g.5gb")].into(),
    );
    assert_eq!(healthy(&node, MIG), [(held.to_string(), false)]);
    assert_eq!(healthy(&node, "nvidia.com/mig-1g.5gb"), []);
    assert!(node.lists().contains_key(&name("nvidia.com/mig-1g.5gb")));
}

#[test]
fn a_renamed_resource_keeps_what_is_leased_under_the_old_name() {
    let mut leases = LeaseTable::default();
    leases
        .reserve(1, &GrantId::new(1, 1), &name("old.io/gpu"), &[id(0, "")])
        .expect("free");
    let mut node = Node::new(policy(), leases, HealthBook::default(), BTreeSet::new());
    node.observe(inventory(vec![
        gpu(0, MigMode::Disabled, vec![]),
        gpu(1, MigMode::Disabled, vec![]),
    ]));
    assert_eq!(
        healthy(&node, "old.io/gpu"),
        [(id(0, "").to_string(), true)]
    );
    assert_eq!(healthy(&node, GPU), [(id(1, "").to_string(), true)]);
}

#[test]
fn containers_that_hold_places_without_a_lease_are_adopted() {
    let mut node = mixed();
    let holder = ContainerRef {
        namespace: "ns".into(),
        pod: "p".into(),
        container: "c".into(),
    };
    let held: BTreeMap<_, _> = [(id(1, "/mig/9@4"), (name(MIG), holder.clone()))].into();
    assert!(node.adopt(9, &held));
    assert!(!node.adopt(10, &held));
    let statuses = node.gpu_statuses();
    let lease = statuses[1].slices[1].lease.as_ref().expect("adopted");
    assert_eq!(
        (lease.state.as_str(), lease.container.as_ref()),
        ("in-use", Some(&holder))
    );
    let counts = node.resource_statuses(|_| true);
    assert_eq!(
        (counts[1].capacity, counts[1].allocatable, counts[1].leased),
        (2, 2, 1)
    );
}

#[test]
fn a_lost_gpu_keeps_its_name_and_its_place_in_every_list() {
    let mut node = empty();
    let three: Vec<_> = (0..3).map(|n| gpu(n, MigMode::Disabled, vec![])).collect();
    node.observe(inventory(three.clone()));
    let order = healthy(&node, GPU);
    node.observe(inventory(vec![three[0].clone(), three[2].clone()]));
    let names = |list: &[(String, bool)]| list.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(names(&healthy(&node, GPU)), names(&order));
    let statuses = node.gpu_statuses();
    assert_eq!(statuses[1].name, "NVIDIA H100 80GB HBM3");
    assert_eq!(
        [true, false, true],
        [0, 1, 2].map(|n: usize| statuses[n].present)
    );
}

#[test]
fn an_instance_that_is_not_offered_has_a_place_all_the_same() {
    let split = instance(2, 4, &[1, 1]);
    let mut node = Node::new(
        policy(),
        LeaseTable::default(),
        HealthBook::default(),
        BTreeSet::new(),
    );
    node.observe(inventory(vec![gpu(
        0,
        MigMode::Enabled,
        vec![instance(1, 0, &[3]), split],
    )]));
    let uuid = gpu(0, MigMode::Enabled, vec![]).facts.uuid;
    let place = |start| Place::Mig {
        gpu: uuid.clone(),
        profile: crate::mig::MigProfileId(9),
        start,
    };
    for (id, start) in [(1, 0), (2, 4)] {
        assert_eq!(node.place_of(&uuid, GpuInstanceId(id)), Some(place(start)));
        assert!(!node.is_gone(&place(start)));
    }
    assert_eq!(node.place_of(&uuid, GpuInstanceId(3)), None);
    node.observe(inventory(vec![gpu(0, MigMode::Enabled, vec![])]));
    assert!(node.is_gone(&place(0)));
    node.observe(inventory(vec![]));
    assert!(
        !node.is_gone(&place(0)),
        "nobody knows while the GPU is away"
    );
}

#[test]
fn a_leased_place_has_its_extent_as_soon_as_its_gpu_is_described() {
    let uuid = gpu(0, MigMode::Enabled, vec![]).facts.uuid;
    let id = PluginDeviceId::from(Place::Mig {
        gpu: uuid,
        profile: crate::mig::MigProfileId(9),
        start: 4,
    });
    let mut leases = LeaseTable::default();
    leases.remember(1, &id, &"nvidia.com/mig-3g.40gb".parse().expect("valid"));
    let mut node = Node::new(policy(), leases, HealthBook::default(), BTreeSet::new());
    node.observe(inventory(vec![gpu(0, MigMode::Enabled, vec![])]));
    let statuses = node.gpu_statuses();
    assert_eq!(statuses[0].slices[0].placement, Some((4, 4)));
    node.observe(inventory(vec![]));
    assert_eq!(node.gpu_statuses()[0].slices[0].placement, Some((4, 4)));
}
