//! Who may depend on whom: down only, and outside crates only where their layer allows them.

use std::fs;

use crate::repository::{Package, packages, root};

/// What a package may use and must never see.
struct Layer {
    package: &'static str,
    /// Packages of the workspace.
    workspace: &'static [&'static str],
    /// Crates from outside; `None` where any is allowed that is not forbidden.
    outside: Option<&'static [&'static str]>,
    forbidden: &'static [&'static str],
}

const NO_DRIVER: &[&str] = &["nvml-wrapper", "nvml-wrapper-sys", "cudarc"];

const LAYERS: &[Layer] = &[
    Layer {
        package: "gpushared-domain",
        workspace: &[],
        outside: Some(&["serde", "thiserror"]),
        forbidden: &[],
    },
    Layer {
        package: "gpushared-proto",
        workspace: &[],
        outside: Some(&["prost", "tonic", "tonic-prost"]),
        forbidden: &[],
    },
    Layer {
        package: "gpushared-nvml",
        workspace: &["gpushared-domain"],
        outside: None,
        forbidden: &["tokio", "tonic"],
    },
    Layer {
        package: "gpushared-host",
        workspace: &["gpushared-domain", "gpushared-proto"],
        outside: None,
        forbidden: NO_DRIVER,
    },
    Layer {
        package: "gpushared-driver-sim",
        workspace: &["gpushared-domain"],
        outside: Some(&["serde_json"]), // in its build script alone
        forbidden: &[],
    },
    Layer {
        package: "gpushared-driver-sim-state",
        workspace: &["gpushared-driver-sim"],
        outside: Some(&["libc", "thiserror"]),
        forbidden: &[],
    },
    Layer {
        package: "gpushared-driver-sim-nvml",
        workspace: &["gpushared-driver-sim", "gpushared-driver-sim-state"],
        outside: Some(&["libc"]),
        forbidden: &[],
    },
    Layer {
        package: "gpushared-driver-sim-cuda",
        workspace: &["gpushared-driver-sim", "gpushared-driver-sim-state"],
        outside: Some(&["libc"]),
        forbidden: &[],
    },
    Layer {
        package: "gpushared-gpusim",
        workspace: &["gpushared-driver-sim", "gpushared-driver-sim-state"],
        outside: None,
        forbidden: &[
            "tokio",
            "tonic",
            "nvml-wrapper",
            "nvml-wrapper-sys",
            "cudarc",
        ],
    },
    Layer {
        package: "gpushared-device-plugin",
        workspace: &["gpushared-domain", "gpushared-proto"],
        outside: None,
        forbidden: &[
            "nvml-wrapper",
            "nvml-wrapper-sys",
            "cudarc",
            "nix",
            "procfs",
        ],
    },
    Layer {
        package: "gpusharectl",
        workspace: &["gpushared-domain"],
        outside: None,
        forbidden: NO_DRIVER,
    },
    Layer {
        package: "gpushared",
        workspace: &[
            "gpushared-domain",
            "gpushared-proto",
            "gpushared-nvml",
            "gpushared-host",
            "gpushared-device-plugin",
        ],
        outside: None,
        forbidden: NO_DRIVER,
    },
];

/// Packages that nobody ships: they may use anything but the C faces, which they run.
const ABOVE: &[&str] = &["gpushared-tests", "gpushared-demo", "gpushared-benches"];

const C_FACES: &[&str] = &["gpushared-driver-sim-nvml", "gpushared-driver-sim-cuda"];

fn is_ours(members: &[Package], name: &str) -> bool {
    members.iter().any(|member| member.name == name)
}

#[test]
fn dependencies_point_down_only() {
    let members = packages();
    let mut wrong = Vec::new();
    for member in &members {
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == member.name) else {
            continue;
        };
        for used in &member.dependencies {
            let used = used.as_str();
            let allowed = if is_ours(&members, used) {
                layer.workspace.contains(&used)
            } else {
                layer.outside.is_none_or(|outside| outside.contains(&used))
            };
            if !allowed || layer.forbidden.contains(&used) {
                wrong.push(format!("{} may not use {used}", member.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_package_has_a_layer() {
    let known =
        |name: &str| LAYERS.iter().any(|layer| layer.package == name) || ABOVE.contains(&name);
    let members = packages();
    let unknown: Vec<_> = members
        .iter()
        .filter(|member| !known(&member.name))
        .collect();
    assert!(unknown.is_empty(), "give these a layer: {unknown:#?}");
    let named = LAYERS.iter().map(|layer| layer.package);
    let gone: Vec<_> = named
        .chain(ABOVE.iter().copied())
        .filter(|name| !is_ours(&members, name))
        .collect();
    assert!(gone.is_empty(), "no such packages: {gone:?}");
}

#[test]
fn cudarc_is_for_tests_and_benches_alone() {
    let wrong: Vec<_> = packages()
        .into_iter()
        .filter(|member| member.all_dependencies.iter().any(|used| used == "cudarc"))
        .filter(|member| !["gpushared-tests", "gpushared-benches"].contains(&member.name.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_simulated_driver_libraries_are_loaded_and_never_linked() {
    let linked: Vec<_> = packages()
        .into_iter()
        .filter(|member| {
            // A layer's own tests may have a library built beside them; who stands above runs programs.
            let above = ABOVE.contains(&member.name.as_str());
            let used = if above {
                &member.all_dependencies
            } else {
                &member.dependencies
            };
            used.iter().any(|used| C_FACES.contains(&used.as_str()))
        })
        .collect();
    assert!(linked.is_empty(), "{linked:#?}");
}

#[test]
fn every_member_inherits_the_lints() {
    for member in packages() {
        let manifest = fs::read_to_string(&member.manifest).expect("a manifest can be read");
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert!(
            inherits,
            "{} does not inherit the workspace's lints",
            member.name
        );
    }
}

#[test]
fn every_version_is_said_once_in_the_root_manifest() {
    for member in packages() {
        let manifest = fs::read_to_string(&member.manifest).expect("a manifest can be read");
        let mut section = String::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                line.clone_into(&mut section);
            }
            let own = section.contains("dependencies") && line.contains("version =");
            assert!(
                !own,
                "{}: {line:?} belongs into {}",
                member.name,
                root().join("Cargo.toml").display()
            );
        }
    }
}
