use super::*;
use crate::health::HealthBook;
use crate::lease::LeaseTable;
use crate::mig::MigMode;
use crate::offer::fixture::{gpu, instance, inventory, policy};

const MIG: &str = "MIG-00000000-0000-0000-0002-000000000000";
const GPU: &str = "GPU-00000000-0000-0000-0000-000000000001";

fn holder(resource: &str) -> (ResourceName, ContainerRef) {
    let container = ContainerRef {
        namespace: "team".into(),
        pod: "a".into(),
        container: "main".into(),
    };
    (resource.parse().expect("valid"), container)
}

fn cut() -> Inventory {
    let gpu = gpu(
        0,
        MigMode::Enabled,
        vec![instance(1, 0, &[3]), instance(2, 4, &[3])],
    );
    inventory(vec![gpu])
}

#[test]
fn ids_of_nvidias_plugin_are_read_and_no_others() {
    let mig = ForeignId::Mig(MIG.parse().expect("valid"));
    let shared = ForeignId::SharedGpu(GPU.parse().expect("valid"));
    assert_eq!(MIG.parse(), Ok(mig.clone()));
    assert_eq!(format!("{MIG}::3").parse(), Ok(mig));
    assert_eq!(format!("{GPU}::0").parse(), Ok(shared));
    for text in [
        "",
        "0",
        GPU,
        "MIG-1",
        &format!("{GPU}::"),
        &format!("{GPU}::x"),
        &format!("{GPU}/mig/9@4"),
        &"x".repeat(5000),
    ] {
        text.parse::<ForeignId>().expect_err(text);
    }
}

#[test]
fn what_nvidias_plugin_gave_out_holds_its_place_while_the_pod_lives() {
    let mut node = Node::new(
        policy(),
        LeaseTable::default(),
        HealthBook::default(),
        std::collections::BTreeSet::new(),
    );
    node.observe(cut());
    let held = Holdings {
        foreign: BTreeMap::from([(
            MIG.parse().expect("valid"),
            holder("nvidia.com/mig-3g.40gb"),
        )]),
        ..Holdings::default()
    };
    let places = held.places(&node);
    let [place] = places.keys().collect::<Vec<_>>().try_into().expect("one");
    assert!(place.as_str().ends_with("/mig/9@4"), "{place}");
    assert!(node.adopt(1, &places));
    let resource = holder("nvidia.com/mig-3g.40gb").0;
    assert_eq!(node.lists()[&resource].len(), 2);
    // the driver does not describe the GPU: nobody can say that the container has something else
    node.observe(inventory(vec![]));
    assert_eq!(held.places(&node), places);
    // it does, and the device is gone
    node.observe(inventory(vec![gpu(0, MigMode::Enabled, vec![])]));
    assert!(held.places(&node).is_empty());
}

#[test]
fn a_time_share_holds_its_gpu() {
    let id = format!("{GPU}::1").parse().expect("valid");
    let place = MigPlaces::default().find(&id).expect("a place");
    assert_eq!(place.as_str(), GPU);
}
