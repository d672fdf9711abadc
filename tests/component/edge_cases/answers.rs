//! Stored answers of the real daemon: the kubelet replays them, whatever has changed since they were given.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gpushared_proto::cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use gpushared_proto::cri::v1::{StatusRequest, StatusResponse, VersionRequest, VersionResponse};
use gpushared_tests::{Container, PodSpec, PodUid, Start, wait_until};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{GPU, Node};

/// A container runtime that takes CDI devices and reads one directory.
struct Runtime {
    spec_dir: PathBuf,
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            runtime_name: "containerd".to_owned(),
            runtime_version: "v2.1.4".to_owned(),
            ..VersionResponse::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let config = format!("{{\"cdiSpecDirs\": [\"{}\"]}}", self.spec_dir.display());
        Ok(Response::new(StatusResponse {
            info: HashMap::from([("config".to_owned(), config)]),
        }))
    }
}

impl Runtime {
    fn serve(self, socket: &Path) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let server = Server::builder().add_service(RuntimeServiceServer::new(self));
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }
}

impl Node {
    /// Ends the daemon and starts one whose `containers.deviceListStrategy` is `strategy`.
    async fn restart_with(&mut self, strategy: &str) {
        self.daemon.term().await;
        self.set_strategy(strategy);
        self.start_daemon();
        self.daemon.wait_ready().await;
    }

    fn set_strategy(&mut self, strategy: &str) {
        let lines = self.config.lines().map(|line| {
            if line.trim_start().starts_with("deviceListStrategy:") {
                format!("  deviceListStrategy: {strategy}\n")
            } else {
                format!("{line}\n")
            }
        });
        self.config = lines.collect();
    }

    async fn run_one(&self, name: &str) -> PodUid {
        let pod = PodSpec::one(name, GPU, 1);
        self.kubelet.run_pod(pod).await.unwrap()
    }

    fn main_of(&self, pod: &PodUid) -> Container {
        self.kubelet.container(pod, "main").unwrap()
    }

    fn cdi_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dirs.cdi()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn a_pod_with_a_cdi_answer_starts_again_after_a_reboot_into_another_strategy() {
    for strategy in ["device-nodes", "env"] {
        let mut node = Node::new("a100-40gb:2").await;
        let pod = node.run_one("a").await;
        node.until_leased(1).await;
        node.daemon.kill9();
        node.gpus.reboot();
        node.dirs.lose_volatile();
        node.kubelet.reboot(Start::default()).await;
        node.set_strategy(strategy);
        node.start_daemon();
        node.kubelet.wait_for_allocatable(GPU, 2).await;
        assert!(node.kubelet.readmit_pods().await.is_empty());
        node.kubelet.start_containers(&pod).await.unwrap();
        let other = node.run_one("b").await;
        assert_eq!(node.main_of(&other).cdi_devices, [""; 0], "{strategy}");
        assert_eq!(node.cdi_files().len(), 1, "{strategy}");
        // and back: a grant that was not answered by CDI gets no file
        node.restart_with("cdi").await;
        node.kubelet
            .restart_container(&other, "main")
            .await
            .unwrap();
        assert_eq!(node.cdi_files().len(), 1, "{strategy}");
    }
}

#[tokio::test]
async fn a_runtime_that_is_silent_is_taken_at_its_last_word_and_asked_again() {
    let mut node = Node::new("a100-40gb:4").await;
    let socket = node.dirs.root().join("cri.sock");
    let runtime = Runtime {
        spec_dir: node.dirs.cdi(),
    };
    let sockets = format!("  runtimeSockets: [{}]\n  cdiDir:", socket.display());
    node.config = node.config.replace("  cdiDir:", &sockets);
    let serves_cdi = |container: &Container| container.cdi_devices.len() == 1;

    // never heard of: device nodes, until it answers
    node.restart_with("auto").await;
    node.kubelet.wait_for_allocatable(GPU, 4).await;
    let before = node.run_one("before").await;
    assert!(!serves_cdi(&node.main_of(&before)));
    let server = runtime.serve(&socket);
    wait_until("new grants are given otherwise", || {
        node.daemon.log().contains("New grants are given otherwise")
    })
    .await;
    let after = node.run_one("after").await;
    assert!(serves_cdi(&node.main_of(&after)));
    node.kubelet
        .restart_container(&before, "main")
        .await
        .unwrap();

    // its last word outlives it
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    fs::remove_file(&socket).unwrap();
    node.restart_with("auto").await;
    node.kubelet.wait_for_allocatable(GPU, 4).await;
    let late = node.run_one("late").await;
    assert!(serves_cdi(&node.main_of(&late)));
}

#[tokio::test]
async fn a_cdi_file_that_somebody_removed_is_there_again_after_the_next_look() {
    let node = Node::new("a100-40gb:1").await;
    let pod = node.run_one("a").await;
    let [file] = node.cdi_files().try_into().unwrap();
    let before = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    wait_until("the file is there again", || file.exists()).await;
    assert_eq!(fs::read(&file).unwrap(), before);
    node.kubelet.restart_container(&pod, "main").await.unwrap();
}

#[tokio::test]
async fn cdi_files_are_not_written_without_the_drivers_files_which_are_looked_for_again() {
    let mut node = Node::new("a100-40gb:1").await;
    let pod = node.run_one("a").await;
    node.until_leased(1).await;
    let [file] = node.cdi_files().try_into().unwrap();
    let before = fs::read(&file).unwrap();
    node.daemon.term().await;
    let hidden = hide_libcuda(&node);
    node.start_daemon();
    node.daemon.wait_ready().await;
    // every look at the layout asks for the MIG mode, so further calls are further looks
    let asked = || -> u64 {
        let said = node.gpus.gpusim(&["calls"], &["-o", "json"]);
        let calls: serde_json::Value = serde_json::from_str(&said).unwrap();
        let functions = calls["functions"].as_array().unwrap();
        let of_mig_mode = functions
            .iter()
            .find(|it| it["name"] == "nvmlDeviceGetMigMode");
        of_mig_mode.map_or(0, |it| it["calls"].as_u64().unwrap())
    };
    let before_looks = asked();
    wait_until("the layout was looked at three times more", || {
        asked() >= before_looks + 3
    })
    .await;
    assert_eq!(fs::read(&file).unwrap(), before);
    let told = node.daemon.log().matches("libraries not found").count();
    assert_eq!(told, 1);
    fs::remove_file(&file).unwrap();
    for (there, away) in hidden {
        fs::rename(away, there).unwrap();
    }
    wait_until("the file is there again", || file.exists()).await;
    assert_eq!(fs::read(&file).unwrap(), before);
    node.kubelet.restart_container(&pod, "main").await.unwrap();
}

/// Renames the library that driver files are known by. Gives the old and the new name of each copy.
fn hide_libcuda(node: &Node) -> Vec<(PathBuf, PathBuf)> {
    let root = node.gpus.dir();
    let family = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let mut hidden = Vec::new();
    for folder in [root.join("lib"), root.join(family)] {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("libcuda.so.") && name.matches('.').count() > 2 {
                let away = folder.join(format!("hidden-{}", name.replace(".so", "")));
                fs::rename(&path, &away).unwrap();
                hidden.push((path, away));
            }
        }
    }
    assert!(!hidden.is_empty());
    hidden
}
