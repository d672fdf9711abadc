use super::*;

fn mistakes(text: &str) -> Vec<String> {
    Config::parse(text)
        .expect_err("mistakes")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_file_is_the_default_configuration() {
    let config = Config::parse("").expect("valid");
    assert_eq!(
        config.kubelet.device_plugins,
        PathBuf::from("/var/lib/kubelet/device-plugins")
    );
    assert_eq!(config.strategy, DeviceListStrategy::Auto);
    assert_eq!(
        config.offers.gpu.as_ref().map(ResourceName::as_str),
        Some("nvidia.com/gpu")
    );
    assert_eq!(
        config,
        Config::parse("version: v1\nkubelet:\n").expect("valid")
    );
}

#[test]
fn all_mistakes_are_told_at_once_with_line_and_column() {
    let text = "\
version: v2
kublet:
  devicePlugins: /x
driver:
  root: relative
  rescanInterval: 5 seconds
containers:
  deviceListStrategy: csi
resources:
  gpu: {name: gpu, offer: maybe}
  exclude:
    - GPU-1
health:
  xids: {ignored: [13, many]}
leases: []
admin:
  http: nowhere
";
    assert_eq!(
        mistakes(text),
        [
            r#"1:10: version: "v2" is not known; this daemon reads v1"#,
            "2:1: unknown key `kublet`; did you mean `kubelet`?",
            "5:9: driver.root: relative is not an absolute path",
            r#"6:19: driver.rescanInterval: "5 seconds" is not a duration such as 500ms, 5s, 2m or 1h"#,
            r#"8:23: containers.deviceListStrategy: "csi" is not one of auto, cdi, cdi-annotations, device-nodes, env"#,
            r#"10:15: resources.gpu.name: "gpu" cannot name an extended resource: a domain and a `/` must come first, as in nvidia.com/gpu"#,
            "10:27: resources.gpu.offer: true or false is expected, not a text",
            r#"12:7: resources.exclude: "GPU-1" is not a GPU UUID (GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx)"#,
            r#"14:24: health.xids.ignored: "many" is not the number of an Xid"#,
            "15:9: leases: a mapping is expected here, not a list",
            r#"17:9: admin.http: "nowhere" is neither an address with a port, such as 0.0.0.0:9477, nor off"#,
        ]
    );
}

#[test]
fn what_is_not_yaml_is_said_with_its_place() {
    let found = mistakes("driver: [\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("not YAML"), "{found:?}");
    assert!(mistakes("a: 1\na: 2\n")[0].contains("duplicated key"));
}

#[test]
fn socket_paths_that_are_too_long_are_refused_at_start() {
    let long = format!("/{}", "d".repeat(120));
    let text = format!(
        "kubelet: {{devicePlugins: {long}, podResources: {long}/s}}\nadmin: {{socket: {long}}}\n"
    );
    let found = mistakes(&text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|text| text.contains("107")), "{found:?}");
}

#[test]
fn bounds_of_durations_are_told() {
    let found = mistakes("leases: {grace: 0s}\n");
    assert_eq!(found, ["1:17: leases.grace: 0ns is outside 1s to 3600s"]);
}

#[test]
fn the_example_file_is_the_default_configuration() {
    let example = include_str!("../../../systemd/config.example.yaml");
    assert_eq!(Config::parse(example), Config::parse(""));
}

#[test]
fn an_excluded_gpu_may_be_written_in_capitals() {
    let text = "resources: {exclude: [GPU-0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0]}";
    let config = Config::parse(text).expect("valid");
    let excluded: Vec<&str> = config.offers.excluded.iter().map(GpuUuid::as_str).collect();
    assert_eq!(excluded, ["GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"]);
}

#[test]
fn whole_gpus_may_not_take_the_name_of_mig_devices() {
    let text = "resources: {gpu: {name: nvidia.com/mig-1g.10gb}}";
    assert!(mistakes(text)[0].contains("mig.domain"));
    Config::parse(&format!("{text}\n").replace("}}", "}, mig: {offer: false}}")).expect("valid");
}

#[test]
fn a_key_that_is_there_twice_is_a_mistake() {
    assert_eq!(mistakes("leases: {grace: 5s, grace: 20s}").len(), 1);
}
