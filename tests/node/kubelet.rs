//! The kubelet of one node: its configuration and what can be read from its log and its sockets.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::case::{Setting, skip};
use crate::component::Component;
use crate::{NODE_ADDRESS, containerd};

/// The kubelet's folder. The device manager's part of it is a constant of the kubelet whatever
/// `--root-dir` says, so the run's mount namespace has a folder of its own here.
pub(crate) const ROOT: &str = "/var/lib/kubelet";

/// The registration socket.
pub(crate) const SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// The checkpoint of the device manager.
pub(crate) const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// Describes the kubelet of node `name`.
pub(crate) fn describe(setting: &Setting, dir: &Path, name: &str, kubeconfig: &Path) -> Component {
    let config = dir.join("kubelet.json");
    std::fs::write(&config, settings(setting, dir).to_string())
        .expect("the kubelet's configuration");
    Component::new("kubelet", &setting.components.join("kube"), dir).args([
        "kubelet".to_owned(),
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-dir={ROOT}"),
        format!("--cert-dir={}", dir.join("kubelet-certificates").display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={NODE_ADDRESS}"),
        // The device manager tells of Allocate at level 4.
        "--v=3".to_owned(),
        "--vmodule=manager=4".to_owned(),
    ])
}

/// Short periods where the default would only make the cases wait; nothing here changes the
/// device manager.
fn settings(setting: &Setting, dir: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": containerd::endpoint(dir),
        "address": "127.0.0.1",
        "healthzBindAddress": "127.0.0.1",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", setting.cgroup),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0.1%",
                         "nodefs.inodesFree": "0.1%", "imagefs.available": "0.1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "10s",
        "syncFrequency": "2s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        "resolvConf": "",
        "podLogsDir": dir.join("pod-logs"),
        "staticPodPath": dir.join("manifests"),
        "fileCheckFrequency": "1s",
        "registerNode": true,
        "volumePluginDir": dir.join("volume-plugins"),
    })
}

/// When the kubelet's registration socket was made.
fn socket_born() -> Option<SystemTime> {
    let socket = std::fs::metadata(SOCKET).ok()?;
    match socket.created() {
        Ok(born) => Some(born),
        Err(error) => skip(format!(
            "the file system does not tell when a file was made: {error}"
        )),
    }
}

/// The time from the birth of the present registration socket to the last registration of each
/// resource in `log`, which is the kubelet's log from its last start on.
pub(crate) fn registration_delays(log: &str) -> Vec<(String, Duration)> {
    let Some(born) = socket_born() else {
        return Vec::new();
    };
    let day = Duration::from_secs(86_400);
    let since_epoch = born
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock after 1970");
    let born_of_day = Duration::from_nanos(
        u64::try_from(since_epoch.as_nanos() % day.as_nanos()).expect("< 1 d"),
    );
    log.lines()
        .filter(|line| line.contains("Got registration request from device plugin with resource"))
        .filter_map(|line| {
            let at = klog_time_of_day(line)?;
            let resource = line.split("resourceName=\"").nth(1)?.split('"').next()?;
            // A negative delay is one that belongs to an older socket.
            Some((resource.to_owned(), at.checked_sub(born_of_day)?))
        })
        .collect()
}

/// The time of day of a klog line, `I1122 23:05:02.123456 …`. The run has `TZ=UTC`.
fn klog_time_of_day(line: &str) -> Option<Duration> {
    let time = line.split_whitespace().nth(1)?;
    let mut parts = time.split([':', '.']).map(|p| p.parse::<u64>().ok());
    let (h, m, s, us) = (
        parts.next()??,
        parts.next()??,
        parts.next()??,
        parts.next()??,
    );
    Some(Duration::from_secs(h * 3600 + m * 60 + s) + Duration::from_micros(us))
}
