//! containerd of one node: its configuration, its image, and what it leaves behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::Setting;
use crate::component::Component;

/// Name of the one image, used for sandboxes and containers alike.
pub(crate) const IMAGE: &str = "node-tests.invalid/box:1";

/// Describes containerd in `dir`.
pub(crate) fn describe(setting: &Setting, dir: &Path) -> Component {
    let own = dir.join("containerd");
    std::fs::create_dir_all(own.join("net.d")).expect("containerd's folder");
    // The pods use the host's network; the node is ready only if some network is configured.
    std::fs::write(
        own.join("net.d/10-loopback.conflist"),
        r#"{"cniVersion":"1.0.0","name":"none","plugins":[{"type":"loopback"}]}"#,
    )
    .expect("the network configuration");
    let config = own.join("config.toml");
    std::fs::write(&config, config_text(&own)).expect("containerd's configuration");
    // containerd looks for its shim in PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    Component::new("containerd", &setting.components.join("containerd"), dir)
        .args(["--config".to_owned(), config.display().to_string()])
        .env("PATH", format!("{}:{path}", setting.components.display()))
}

/// Starts containerd and waits until it serves.
pub(crate) fn start(containerd: &mut Component, setting: &Setting, dir: &Path) {
    containerd.start();
    containerd.until_ready(Duration::from_secs(30), || {
        ctr(setting, dir)
            .args(["version"])
            .output()
            .is_ok_and(|o| o.status.success())
    });
}

/// Imports the image; once per node, it outlives a restart.
pub(crate) fn import_image(setting: &Setting, dir: &Path) {
    let output = ctr(setting, dir)
        .args([
            "-n",
            "k8s.io",
            "images",
            "import",
            "--local",
            "--snapshotter",
            "native",
        ])
        .arg(&setting.image)
        .output()
        .expect("ctr starts");
    assert!(
        output.status.success(),
        "ctr images import: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The process of a running container, by the id that the pod's status shows
/// (`containerd://<id>`); `None` if it does not run.
pub(crate) fn running_process(setting: &Setting, dir: &Path, id: &str) -> Option<u32> {
    let output = ctr(setting, dir)
        .args(["-n", "k8s.io", "tasks", "ls"])
        .output()
        .expect("ctr starts");
    let id = id.rsplit('/').next().unwrap_or(id);
    // TASK PID STATUS
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| {
            let mut fields = line.split_whitespace();
            let found = fields.next() == Some(id);
            let pid = fields.next()?.parse().ok()?;
            (found && fields.next() == Some("RUNNING")).then_some(pid)
        })
}

/// The CRI address.
pub(crate) fn endpoint(dir: &Path) -> String {
    format!("unix://{}", dir.join("containerd/c.sock").display())
}

fn ctr(setting: &Setting, dir: &Path) -> Command {
    let mut command = Command::new(setting.components.join("ctr"));
    command.arg("--address").arg(dir.join("containerd/c.sock"));
    command
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc could not lower the score of a pause
/// container and would die. The native snapshotter copies a few megabytes and works on every file
/// system, overlay over overlay included.
fn config_text(own: &Path) -> String {
    let own = own.display();
    format!(
        "version = 3
root = '{own}/root'
state = '{own}/state'

[grpc]
  address = '{own}/c.sock'

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'native'

  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
  enable_cdi = true
  cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']
  restrict_oom_score_adj = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni', '/opt/cni/bin']
    conf_dir = '{own}/net.d'

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
"
    )
}
