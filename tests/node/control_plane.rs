//! etcd, apiserver and scheduler: started once, shared by all cases of a run.
//!
//! Nothing in them depends on the node, and a case gets its own node with its own name; only its
//! kubelet, containerd, GPUs and daemon are new.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::api::Api;
use crate::component::Component;

/// The token of the one user, a cluster administrator.
const TOKEN: &str = "node-tests";

/// Fixed ports: the run has a network namespace of its own.
const ETCD: u16 = 2379;
const ETCD_PEER: u16 = 2380;
const APISERVER: u16 = 6443;

/// The parts of the control plane, alive as long as the test process.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    /// The apiserver.
    pub(crate) api: Api,
    /// A kubeconfig for the kubelet and the scheduler.
    pub(crate) kubeconfig: PathBuf,
    /// Logs of the three.
    pub(crate) logs: PathBuf,
    _parts: [Component; 3],
}

/// The control plane of this run, started at the first call.
pub(crate) fn control_plane(components: &Path, dir: &Path) -> &'static ControlPlane {
    static PLANE: OnceLock<ControlPlane> = OnceLock::new();
    PLANE.get_or_init(|| start(components, &dir.join("control-plane")))
}

fn start(components: &Path, dir: &Path) -> ControlPlane {
    std::fs::create_dir_all(dir).expect("the control plane's folder");
    let kube = components.join("kube");
    let at = |name: &str| dir.join(name).display().to_string();

    let mut etcd = Component::new("etcd", &kube, dir).args([
        "etcd".to_owned(),
        format!("--data-dir={}", at("etcd")),
        format!("--listen-client-url=http://127.0.0.1:{ETCD}"),
        format!("--listen-peer-url=http://127.0.0.1:{ETCD_PEER}"),
    ]);
    etcd.start();

    std::fs::write(
        dir.join("tokens.csv"),
        format!("{TOKEN},admin,admin,\"system:masters\"\n"),
    )
    .expect("the token file");
    service_account_key(dir);
    let mut apiserver = Component::new("kube-apiserver", &kube, dir).args([
        "kube-apiserver".to_owned(),
        format!("--etcd-servers=http://127.0.0.1:{ETCD}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--advertise-address={}", crate::NODE_ADDRESS),
        format!("--secure-port={APISERVER}"),
        format!("--cert-dir={}", at("apiserver-certificates")),
        format!("--token-auth-file={}", at("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        format!("--service-account-key-file={}", at("service-account.key")),
        format!(
            "--service-account-signing-key-file={}",
            at("service-account.key")
        ),
        "--service-account-issuer=https://node-tests.invalid".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        // There is no controller manager: nobody would make service accounts, or take the
        // not-ready taint off a node.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,Priority".to_owned(),
    ]);
    apiserver.start();
    let api = Api::new(&format!("https://127.0.0.1:{APISERVER}"), TOKEN);
    apiserver.until_ready(Duration::from_secs(90), || {
        api.request("GET", "/readyz", None).code == 200
            && api.get("/api/v1/namespaces/default").is_some()
    });

    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig_text()).expect("the kubeconfig");
    let mut scheduler = Component::new("kube-scheduler", &kube, dir).args([
        "kube-scheduler".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", at("scheduler-certificates")),
    ]);
    scheduler.start();
    ControlPlane {
        api,
        kubeconfig,
        logs: dir.to_owned(),
        _parts: [scheduler, apiserver, etcd],
    }
}

fn kubeconfig_text() -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: test
  cluster: {{server: 'https://127.0.0.1:{APISERVER}', insecure-skip-tls-verify: true}}
users:
- name: admin
  user: {{token: {TOKEN}}}
contexts:
- name: test
  context: {{cluster: test, user: admin}}
current-context: test
"
    )
}

/// The apiserver insists on a key to sign service account tokens with, though none are used.
fn service_account_key(dir: &Path) {
    let made = std::process::Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(dir.join("service-account.key"))
        .arg("2048")
        .stderr(std::process::Stdio::null())
        .status()
        .expect("openssl starts");
    assert!(made.success(), "openssl made no key");
}
