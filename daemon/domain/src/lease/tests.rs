use super::*;
use proptest::prelude::*;

const GRACE: u64 = 10;

fn id(start: u32) -> PluginDeviceId {
    format!("GPU-00000000-0000-0000-0000-000000000000/mig/19@{start}")
        .parse()
        .expect("valid")
}

fn resource() -> ResourceName {
    "nvidia.com/mig-1g.10gb".parse().expect("valid")
}

fn container(name: &str) -> ContainerRef {
    ContainerRef {
        namespace: "default".into(),
        pod: name.into(),
        container: "main".into(),
    }
}

fn reserved(now: u64, starts: &[u32]) -> LeaseTable {
    let mut table = LeaseTable::default();
    let ids: Vec<_> = starts.iter().copied().map(id).collect();
    table
        .reserve(now, &GrantId::new(1, 1), &resource(), &ids)
        .expect("free");
    table
}

fn shown(starts: &[u32]) -> BTreeMap<PluginDeviceId, ContainerRef> {
    starts
        .iter()
        .map(|&start| (id(start), container("a")))
        .collect()
}

#[test]
fn a_pod_that_is_not_listed_yet_keeps_its_lease_for_the_grace() {
    let mut table = reserved(100, &[0]);
    for now in [101, 105, 109] {
        assert!(
            table
                .observe(now, GRACE, &BTreeMap::new(), |_| false)
                .released
                .is_empty()
        );
    }
    assert_eq!(
        table
            .observe(110, GRACE, &BTreeMap::new(), |_| false)
            .released,
        [id(0)]
    );
    assert_eq!(
        table.get(&id(0)).map(|lease| &lease.state),
        Some(&LeaseState::Releasing)
    );
    assert!(table.released(&id(0)).is_some());
    assert_eq!(table.iter().count(), 0);
}

#[test]
fn one_missing_observation_releases_nothing() {
    let mut table = reserved(100, &[0]);
    assert_eq!(
        table.observe(200, GRACE, &shown(&[0]), |_| false).changed,
        [id(0)]
    );
    assert!(
        table
            .observe(201, GRACE, &BTreeMap::new(), |_| false)
            .released
            .is_empty()
    );
    assert!(
        table
            .observe(202, GRACE, &shown(&[0]), |_| false)
            .released
            .is_empty()
    );
    assert!(
        table
            .observe(203, GRACE, &BTreeMap::new(), |_| false)
            .released
            .is_empty()
    );
    assert_eq!(
        table
            .observe(204, GRACE, &BTreeMap::new(), |_| false)
            .released,
        [id(0)]
    );
}

#[test]
fn a_held_place_allocated_again_gets_another_grant_and_keeps_the_first() {
    let mut table = reserved(100, &[0]);
    table.observe(101, GRACE, &shown(&[0]), |_| false);
    let second = GrantId::new(1, 2);
    table
        .reserve(150, &second, &resource(), &[id(0)])
        .expect("the kubelet knows better");
    let lease = table.get(&id(0)).expect("leased");
    assert_eq!(lease.grants, [GrantId::new(1, 1), second]);
    assert_eq!(lease.state, LeaseState::Ready);
    assert!(
        table
            .observe(155, GRACE, &BTreeMap::new(), |_| false)
            .released
            .is_empty()
    );
    assert!(
        table
            .observe(159, GRACE, &BTreeMap::new(), |_| false)
            .released
            .is_empty()
    );
}

#[test]
fn a_place_that_the_kubelets_own_record_binds_is_not_released() {
    let mut table = reserved(100, &[0, 1]);
    let bound = |place: &PluginDeviceId| *place == id(0);
    table.observe(200, GRACE, &BTreeMap::new(), bound);
    let observed = table.observe(201, GRACE, &BTreeMap::new(), bound);
    assert_eq!(observed.bound, [id(0)]);
    assert_eq!(observed.released, [id(1)]);
    let observed = table.observe(202, GRACE, &BTreeMap::new(), |_| false);
    assert_eq!(observed.released, [id(0)]);
}

#[test]
fn a_clock_that_was_set_back_keeps_a_lease_no_longer_than_the_grace() {
    let mut table = reserved(1_000_000, &[0]);
    for now in [100, 105, 109] {
        let observed = table.observe(now, GRACE, &BTreeMap::new(), |_| false);
        assert!(observed.released.is_empty(), "{now}");
    }
    let observed = table.observe(110, GRACE, &BTreeMap::new(), |_| false);
    assert_eq!(observed.released, [id(0)]);
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut table = reserved(100, &[0]);
    table.observe(200, GRACE, &BTreeMap::new(), |_| false);
    table.observe(201, GRACE, &BTreeMap::new(), |_| false);
    let before = table.clone();
    let grant = GrantId::new(1, 2);
    let error = table
        .reserve(202, &grant, &resource(), &[id(1), id(0)])
        .expect_err("releasing");
    assert_eq!(error, ReserveError::Releasing { id: id(0) });
    let error = table
        .reserve(202, &grant, &resource(), &[id(1), id(1)])
        .expect_err("twice");
    assert_eq!(error, ReserveError::Twice { id: id(1) });
    assert_eq!(table, before);
}

#[test]
fn a_container_that_holds_an_unknown_place_is_adopted_once() {
    let mut table = LeaseTable::default();
    table.adopt(5, &id(3), &resource(), &container("a"));
    table.adopt(6, &id(3), &resource(), &container("b"));
    let lease = table.get(&id(3)).expect("adopted");
    assert_eq!(
        (lease.granted_at, lease.container.as_ref()),
        (5, Some(&container("a")))
    );
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<u32>),
    Observe(Vec<u32>),
    Released,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let starts = || proptest::collection::vec(0_u32..7, 0..4);
    let step = prop_oneof![
        starts().prop_map(Step::Reserve),
        starts().prop_map(Step::Observe),
        Just(Step::Released),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn a_lease_that_is_observed_is_never_released(steps in steps(), pause in 1_u64..20) {
        let mut table = LeaseTable::default();
        let mut now = 1_000;
        for (sequence, step) in steps.into_iter().enumerate() {
            now += pause;
            match step {
                Step::Reserve(starts) => {
                    let ids: Vec<_> = starts.into_iter().map(id).collect();
                    let before = table.clone();
                    let grant = GrantId::new(9, sequence as u64);
                    if table.reserve(now, &grant, &resource(), &ids).is_err() {
                        prop_assert_eq!(&table, &before);
                    } else {
                        prop_assert_eq!(table.holds_grant(&grant), !ids.is_empty());
                    }
                }
                Step::Observe(starts) => {
                    let seen = shown(&starts);
                    let observed = table.observe(now, GRACE, &seen, |_| false);
                    for gone in &observed.released {
                        prop_assert!(!seen.contains_key(gone));
                        let granted = table.get(gone).map_or(0, |lease| lease.granted_at);
                        prop_assert!(now - granted >= GRACE);
                    }
                }
                Step::Released => {
                    let gone: Vec<_> = table
                        .iter()
                        .filter(|lease| lease.state == LeaseState::Releasing)
                        .map(|lease| lease.id.clone())
                        .collect();
                    for id in gone {
                        prop_assert!(table.released(&id).is_some());
                    }
                }
            }
            let text = serde_json::to_string(&table).expect("written");
            let read: LeaseTable = serde_json::from_str(&text).expect("read");
            prop_assert_eq!(&read, &table);
        }
    }
}
