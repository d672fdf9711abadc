use super::*;

const GPU: &str = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

#[test]
fn a_journal_that_does_not_say_how_grants_were_answered_is_read() {
    let grant = GrantId::new(1, 1);
    let mut json = serde_json::to_value(Document {
        grants: BTreeMap::from([(grant.clone(), vec![GPU.parse().unwrap()])]),
        without_cdi: BTreeSet::from([grant.clone()]),
        runtime_has_cdi: Some(true),
        ..Document::default()
    })
    .unwrap();
    let new: Document = serde_json::from_value(json.clone()).unwrap();
    assert!(new.without_cdi.contains(&grant));
    assert_eq!(new.runtime_has_cdi, Some(true));
    let fields = json.as_object_mut().unwrap();
    fields.remove("without_cdi").unwrap();
    fields.remove("runtime_has_cdi").unwrap();
    let old: Document = serde_json::from_value(json).unwrap();
    assert!(old.grants.contains_key(&grant));
    assert!(old.without_cdi.is_empty());
    assert_eq!(old.runtime_has_cdi, None);
}
