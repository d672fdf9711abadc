//! Pods: what they ask for, and what is seen of them from outside and from inside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::containerd::{self, IMAGE};
use crate::machine::Machine;
use crate::wait::{Look, throughout, until};

/// What a container tells of itself, and then it waits to be told to end.
const SHOW_AND_WAIT: &str = r#"
find /dev -name 'nvidia*' ! -type d -exec stat -c 'device %n %F %t:%T' {} +
env | sed 's/^/env /'
sed 's/^/mount /' /proc/self/mountinfo
trap 'exit 0' TERM
echo shown
while :; do sleep 3600 & wait; done"#;

/// How long a pod may take to run: scheduling, a sandbox, a container, on a busy machine.
const START: Duration = Duration::from_secs(40);

/// A pod to be created.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    name: String,
    resources: Vec<(String, u32)>,
    script: String,
    restart: &'static str,
    init: Option<String>,
}

/// A pod that shows what it got and waits.
pub(crate) fn pod(name: &str) -> Wanted {
    Wanted {
        name: name.to_owned(),
        resources: Vec::new(),
        script: SHOW_AND_WAIT.to_owned(),
        restart: "Always",
        init: None,
    }
}

impl Wanted {
    /// Asks for `count` of a resource.
    pub(crate) fn with(mut self, resource: &str, count: u32) -> Self {
        self.resources.push((resource.to_owned(), count));
        self
    }

    /// Runs another script.
    pub(crate) fn script(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    /// Runs a script to its end in an init container first, which asks for the same resources.
    pub(crate) fn init(mut self, script: &str) -> Self {
        self.init = Some(script.to_owned());
        self
    }

    fn object(&self, node: &str) -> Value {
        let container = |name: &str, script: &str, limits: Value| {
            json!({
                "name": name,
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "resources": {"limits": limits},
            })
        };
        let limits: BTreeMap<&str, String> = self
            .resources
            .iter()
            .map(|(resource, count)| (resource.as_str(), count.to_string()))
            .collect();
        let init: Vec<Value> = self
            .init
            .iter()
            .map(|script| container("init", script, json!(limits)))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                // By selector and not by nodeName: the pod goes through the scheduler.
                "nodeSelector": {"kubernetes.io/hostname": node},
                "hostNetwork": true,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "restartPolicy": self.restart,
                "initContainers": init,
                "containers": [container("main", &self.script, json!(limits))],
            },
        })
    }
}

/// What a container of a pod showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Path → `major:minor` in hexadecimal, of every `/dev/nvidia*` at any depth.
    pub(crate) devices: BTreeMap<String, String>,
    /// The environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Mount points.
    pub(crate) mounts: BTreeSet<String>,
}

/// One life of a container: it and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incarnation {
    /// The runtime's id of the container.
    pub(crate) container: String,
    /// Its first process.
    pub(crate) process: u32,
    /// The IDs of its devices as the kubelet tells them.
    pub(crate) devices: BTreeSet<String>,
}

impl Machine {
    /// Creates a pod on this node.
    pub(crate) fn create(&self, wanted: &Wanted) {
        self.api.create(
            "/api/v1/namespaces/default/pods",
            &wanted.object(&self.name),
        );
    }

    /// Creates a pod and waits until its container runs and has shown what it got.
    #[track_caller]
    pub(crate) fn run(&self, wanted: &Wanted) -> Inside {
        self.create(wanted);
        self.until_running(&wanted.name);
        self.inside(&wanted.name)
    }

    /// The pod object.
    pub(crate) fn pod(&self, name: &str) -> Value {
        self.api
            .get(&format!("/api/v1/namespaces/default/pods/{name}"))
            .unwrap_or(Value::Null)
    }

    /// Waits until the main container runs.
    #[track_caller]
    pub(crate) fn until_running(&self, name: &str) {
        until(format_args!("pod {name} to run"), START, || {
            let pod = self.pod(name);
            let main = main_status(&pod);
            assert!(
                pod["status"]["phase"] != "Failed",
                "pod {name} failed: {} {}",
                pod["status"]["reason"],
                pod["status"]["message"]
            );
            if main["state"]["running"].is_object() {
                Look::Found(())
            } else {
                Look::NotYet(format!("{} {}", pod["status"]["phase"], main["state"]))
            }
        });
    }

    /// The runtime's id of the main container.
    pub(crate) fn container_id(&self, name: &str) -> String {
        let pod = self.pod(name);
        main_status(&pod)["containerID"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The main container as it runs now.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub(crate) fn incarnation(&self, name: &str) -> Incarnation {
        let container = self.container_id(name);
        let process = containerd::running_process(&self.setting, &self.dir, &container);
        Incarnation {
            process: process.unwrap_or_else(|| panic!("container {container} does not run")),
            container,
            devices: self.assigned(name),
        }
    }

    /// Checks for some time that the pod goes on undisturbed: a kubelet that has just started
    /// needs some to find fault with a pod.
    #[track_caller]
    pub(crate) fn goes_on(&self, name: &str, before: &Incarnation) {
        throughout(
            format_args!("pod {name} as before"),
            Duration::from_secs(3),
            || {
                let pod = self.pod(name);
                let phase = &pod["status"]["phase"];
                (phase != "Running").then(|| format!("{phase} {}", pod["status"]["message"]))
            },
        );
        assert_eq!(self.incarnation(name), *before);
    }

    /// How often the main container was restarted.
    pub(crate) fn restarts(&self, name: &str) -> u64 {
        let pod = self.pod(name);
        main_status(&pod)["restartCount"].as_u64().unwrap_or(0)
    }

    /// The health of the devices of the main container as the pod's status tells it: ID → health.
    pub(crate) fn device_health(&self, name: &str) -> BTreeMap<String, String> {
        let pod = self.pod(name);
        let statuses = main_status(&pod)["allocatedResourcesStatus"].clone();
        let resources = statuses.as_array().into_iter().flatten();
        resources
            .flat_map(|status| status["resources"].as_array().cloned().unwrap_or_default())
            .filter_map(|resource| {
                let id = resource["resourceID"].as_str()?.to_owned();
                Some((id, resource["health"].as_str()?.to_owned()))
            })
            .collect()
    }

    /// Deletes a pod and waits until it is gone.
    #[track_caller]
    pub(crate) fn delete(&self, name: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        self.api.request("DELETE", &path, None);
        until(format_args!("pod {name} to be gone"), START, || match self
            .api
            .request("GET", &path, None)
            .code
        {
            404 => Look::Found(()),
            code => Look::NotYet(format!("HTTP {code}")),
        });
    }

    /// What the newest main container of the pod showed.
    #[track_caller]
    pub(crate) fn inside(&self, name: &str) -> Inside {
        let id = self.container_id(name);
        until(format_args!("what pod {name} shows"), START, || {
            let lines = self.output(name);
            match lines.iter().rposition(|line| line == "shown") {
                Some(end) => Look::Found(parse(&lines[..end])),
                None => Look::NotYet(format!("{} lines of {id}", lines.len())),
            }
        })
    }

    /// The output of the newest main container.
    pub(crate) fn output(&self, name: &str) -> Vec<String> {
        let uid = self.pod(name)["metadata"]["uid"]
            .as_str()
            .unwrap_or("?")
            .to_owned();
        let dir = self.dir.join(format!("pod-logs/default_{name}_{uid}/main"));
        let newest = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .max_by_key(|path| {
                let number = path.file_stem().and_then(|s| s.to_str());
                number.and_then(|n| n.parse::<u32>().ok())
            });
        let text = newest
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        // `<time> stdout F <line>`
        text.lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3).map(str::to_owned))
            .collect()
    }
}

/// The status of the main container.
pub(crate) fn main_status(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let main = statuses.and_then(|all| all.iter().find(|s| s["name"] == "main"));
    main.cloned().unwrap_or(Value::Null)
}

fn parse(lines: &[String]) -> Inside {
    let mut inside = Inside {
        devices: BTreeMap::new(),
        env: BTreeMap::new(),
        mounts: BTreeSet::new(),
    };
    for line in lines {
        if let Some(device) = line.strip_prefix("device ") {
            let (path, rest) = device.split_once(' ').unwrap_or((device, ""));
            let number = rest.rsplit(' ').next().unwrap_or_default();
            inside.devices.insert(path.to_owned(), number.to_owned());
        } else if let Some((name, value)) =
            line.strip_prefix("env ").and_then(|e| e.split_once('='))
        {
            inside.env.insert(name.to_owned(), value.to_owned());
        } else if let Some(point) = line
            .strip_prefix("mount ")
            .and_then(|m| m.split(' ').nth(4))
        {
            inside.mounts.insert(point.to_owned());
        }
    }
    inside
}
