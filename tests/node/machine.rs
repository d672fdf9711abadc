//! One node: containerd and the kubelet over a fresh folder, with a name of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::api::Api;
use crate::case::Setting;
use crate::component::Component;
use crate::control_plane::{ControlPlane, control_plane};
use crate::wait::until_eq;
use crate::{containerd, kubelet, leftovers};

/// A booted node.
#[derive(Debug)]
pub(crate) struct Machine {
    /// What the run was told.
    pub(crate) setting: Setting,
    /// The node's folder: logs, configurations, containerd's data, the simulated GPUs.
    pub(crate) dir: PathBuf,
    /// The node's name in the cluster.
    pub(crate) name: String,
    /// The cluster's apiserver.
    pub(crate) api: Api,
    /// The container runtime.
    pub(crate) containerd: Component,
    /// The kubelet.
    pub(crate) kubelet: Component,
    plane: &'static ControlPlane,
    kubelet_log_start: usize,
}

impl Machine {
    /// Boots a node and waits until the scheduler may use it.
    pub(crate) fn boot(setting: &Setting) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let plane = control_plane(&setting.components, &setting.dir);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = setting.dir.join(format!("n{number}"));
        let name = format!("node-{number}");
        for folder in ["manifests", "pod-logs", "volume-plugins"] {
            std::fs::create_dir_all(dir.join(folder)).expect("a folder of the node");
        }
        let mut machine = Self {
            containerd: containerd::describe(setting, &dir),
            kubelet: kubelet::describe(setting, &dir, &name, &plane.kubeconfig),
            setting: setting.clone(),
            api: plane.api.clone(),
            dir,
            name,
            plane,
            kubelet_log_start: 0,
        };
        containerd::start(&mut machine.containerd, setting, &machine.dir);
        containerd::import_image(setting, &machine.dir);
        machine.start_kubelet();
        machine
    }

    /// Starts the kubelet and waits until the node is ready.
    pub(crate) fn start_kubelet(&mut self) {
        self.launch_kubelet();
        self.until_ready();
    }

    /// Starts the kubelet and waits for nothing.
    pub(crate) fn launch_kubelet(&mut self) {
        self.kubelet_log_start = self.kubelet.log().len();
        self.kubelet.start();
    }

    /// Waits until the kubelet answers and the node is ready.
    pub(crate) fn until_ready(&mut self) {
        let (api, name) = (self.api.clone(), self.name.clone());
        self.kubelet.until_ready(Duration::from_secs(60), || {
            kubelet_answers() && node_condition(&api, &name, "Ready").as_deref() == Some("True")
        });
    }

    /// The kubelet's log since its last start.
    pub(crate) fn kubelet_log(&self) -> String {
        let log = self.kubelet.log();
        log.get(self.kubelet_log_start..).unwrap_or("").to_owned()
    }

    /// The node object.
    pub(crate) fn object(&self) -> Value {
        self.api
            .get(&format!("/api/v1/nodes/{}", self.name))
            .unwrap_or(Value::Null)
    }

    /// How much of a resource the node offers; `None` if it does not know the resource.
    pub(crate) fn allocatable(&self, resource: &str) -> Option<u64> {
        quantity(&self.object()["status"]["allocatable"][resource])
    }

    /// How much of a resource the node has, healthy or not.
    pub(crate) fn capacity(&self, resource: &str) -> Option<u64> {
        quantity(&self.object()["status"]["capacity"][resource])
    }

    /// Waits until the node offers exactly that much.
    #[track_caller]
    pub(crate) fn until_allocatable(&self, resource: &str, count: u64) {
        until_eq(
            format_args!("allocatable {resource} of {}", self.name),
            Duration::from_secs(30),
            &Some(count),
            || self.allocatable(resource),
        );
    }

    /// Ends the node as a power cut would: every process of it is gone at once, and so is what
    /// lives in memory only. Disks stay: containerd's images, the kubelet's folder.
    pub(crate) fn power_off(&mut self) {
        self.kubelet.kill_9();
        self.containerd.kill_9();
        leftovers::kill(&self.setting.cgroup, &self.dir);
        leftovers::unmount(&self.dir);
        for volatile in [self.dir.join("containerd/state"), PathBuf::from("/run")] {
            leftovers::empty(&volatile);
        }
        leftovers::new_boot_id(&self.setting.dir);
    }

    /// containerd's folder of a running container, made when the container is.
    pub(crate) fn bundle(&self, container: &str) -> PathBuf {
        let id = container.rsplit('/').next().unwrap_or(container);
        self.dir
            .join("containerd/state/io.containerd.runtime.v2.task/k8s.io")
            .join(id)
    }

    /// Starts containerd again after [`power_off`](Self::power_off).
    pub(crate) fn start_containerd(&mut self) {
        containerd::start(&mut self.containerd, &self.setting, &self.dir);
    }

    fn keep_logs(&self) {
        let case = std::thread::current()
            .name()
            .unwrap_or("case")
            .replace("::", "-");
        let kept = self.setting.logs.join(case);
        std::fs::create_dir_all(&kept).expect("the folder for kept logs");
        for (path, name) in [
            ("/api/v1/pods", "pods.json"),
            ("/api/v1/events", "events.json"),
            ("/api/v1/nodes", "nodes.json"),
        ] {
            let objects = self.api.get(path).unwrap_or(Value::Null);
            drop(std::fs::write(
                kept.join(name),
                serde_json::to_string_pretty(&objects).unwrap_or_default(),
            ));
        }
        copy(
            &[&self.plane.logs, &self.dir],
            &["log", "yaml", "json", "toml"],
            &kept,
        );
        copy(
            &[Path::new("/run/cdi"), &self.dir.join("state")],
            &["json", "yaml"],
            &kept,
        );
        drop(std::fs::copy(
            kubelet::CHECKPOINT,
            kept.join("kubelet_internal_checkpoint"),
        ));
        drop(
            Command::new("cp")
                .arg("-r")
                .args([self.dir.join("pod-logs"), kept])
                .status(),
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        self.kubelet.kill_9();
        let pods = self.api.get("/api/v1/namespaces/default/pods");
        for pod in pods.iter().filter_map(|p| p["items"].as_array()).flatten() {
            if let Some(name) = pod["metadata"]["name"].as_str() {
                self.api
                    .delete_now(&format!("/api/v1/namespaces/default/pods/{name}"));
            }
        }
        self.containerd.kill_9();
        leftovers::kill(&self.setting.cgroup, &self.dir);
        leftovers::unmount(&self.dir);
        leftovers::remove_pod_cgroups(&self.setting.cgroup);
        self.api.delete_now(&format!("/api/v1/nodes/{}", self.name));
        leftovers::empty(Path::new(kubelet::ROOT));
        leftovers::empty(Path::new("/run"));
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn quantity(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn node_condition(api: &Api, name: &str, condition: &str) -> Option<String> {
    let node = api.get(&format!("/api/v1/nodes/{name}"))?;
    let conditions = node["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == condition)?;
    found["status"].as_str().map(str::to_owned)
}

/// The apiserver remembers a node that was ready before its kubelet was killed; only the kubelet
/// itself says that it is back.
fn kubelet_answers() -> bool {
    Command::new("curl")
        .args([
            "--silent",
            "--fail",
            "--max-time",
            "2",
            "--output",
            "/dev/null",
        ])
        .arg("http://127.0.0.1:10248/healthz")
        .status()
        .is_ok_and(|status| status.success())
}

fn copy(from: &[&Path], endings: &[&str], to: &Path) {
    for entry in from
        .iter()
        .filter_map(|f| std::fs::read_dir(f).ok())
        .flatten()
        .flatten()
    {
        let path = entry.path();
        if endings
            .iter()
            .any(|e| path.extension().is_some_and(|x| x == *e))
        {
            drop(std::fs::copy(&path, to.join(entry.file_name())));
        }
    }
}
