//! The upstream tests' own device plugin on this cluster: what the kubelet does with a known-good
//! plugin is what the cases for ours may expect of it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::case::{case, figure};
use crate::component::Component;
use crate::kubelet;
use crate::machine::Machine;
use crate::pods::pod;
use crate::wait::until_eq;

const RESOURCE: &str = "example.com/resource";

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn the_upstream_sample_plugin_survives_a_kubelet_kill() {
    case(
        "the_upstream_sample_plugin_survives_a_kubelet_kill",
        |setting| {
            let mut machine = Machine::boot(setting);
            std::fs::create_dir_all("/run/cdi").expect("the CDI folder");
            let mut plugin = Component::new(
                "sample-device-plugin",
                &setting.components.join("sample-device-plugin"),
                &machine.dir,
            )
            .env("CDI_ENABLED", "1");
            plugin.start();
            machine.until_allocatable(RESOURCE, 2);

            let inside = machine.run(&pod("sample").with(RESOURCE, 1));
            let assigned = machine.assigned("sample");
            assert_eq!(assigned.len(), 1, "{assigned:?}");
            let cdi: BTreeSet<String> = inside
                .env
                .get("CDI_DEVICE")
                .map(|name| name.replace("CDI-", ""))
                .into_iter()
                .collect();
            assert_eq!(
                cdi, assigned,
                "the CDI edit of the device given is in the container"
            );

            let id = machine.container_id("sample");
            machine.kubelet.kill_9();
            machine.launch_kubelet();
            until_eq("registration", Duration::from_secs(30), &1, || {
                kubelet::registration_delays(&machine.kubelet_log()).len()
            });
            for (resource, delay) in kubelet::registration_delays(&machine.kubelet_log()) {
                figure(&format!(
                    "{resource} registered {delay:?} after kubelet.sock appeared"
                ));
            }
            machine.until_ready();
            machine.until_allocatable(RESOURCE, 2);
            assert_eq!(machine.container_id("sample"), id);
            assert_eq!(machine.assigned("sample"), assigned);
            plugin.kill_9();
        },
    );
}
