//! What the demo does, step by step; every claim that it makes is checked.

use std::time::{Duration, Instant};

use gpushared_tests::{
    DaemonUnderTest, FakeKubelet, NodeDirs, PodSpec, PodUid, SimNode, artifacts, daemon_config,
    look_within,
};
use serde_json::Value;

use crate::picture;
use crate::screen::Screen;

const GPU: &str = "nvidia.com/gpu";
const MIG_1G: &str = "nvidia.com/mig-1g.10gb";
const MIG_3G: &str = "nvidia.com/mig-3g.40gb";
/// How long the demo waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The parts on stage.
struct Stage<'a> {
    screen: &'a Screen,
    gpus: SimNode,
    kubelet: FakeKubelet,
    daemon: DaemonUnderTest,
    config: String,
    admitted: usize,
    refused: usize,
    // last: goes away after what runs in it
    dirs: NodeDirs,
}

/// Tells the whole story; says whether every claim held.
pub(crate) async fn tell(screen: &Screen) -> bool {
    screen.step("Building the daemon and the simulated driver (at once when they are built)");
    screen.fact(&format!("in {}", artifacts().display()));
    let mut stage = set_up(screen).await;
    let pods = pods_come(&mut stage).await;
    a_slice_breaks_and_heals(&stage).await;
    daemon_and_kubelet_die(&mut stage, &pods).await;
    a_gpu_falls_off_the_bus(&stage).await;
    too_much_is_refused(&mut stage).await;
    pods_go(&stage, &pods).await;
    finish(stage).await
}

async fn set_up(screen: &Screen) -> Stage<'_> {
    let dirs = NodeDirs::new();
    screen.step("A node with 8 × NVIDIA H100 80GB (simulated): 4 whole, 4 cut by MIG");
    let gpus = SimNode::new(&dirs.root().join("gpu"), "h100-80gb:8");
    for gpu in 4..8 {
        gpus.enable_mig(gpu);
    }
    gpus.create_mig(4, "1g.10gb", 7);
    gpus.create_mig(5, "3g.40gb", 2);
    gpus.create_mig(6, "3g.40gb", 1);
    gpus.create_mig(6, "1g.10gb", 3);
    gpus.create_mig(7, "1g.10gb", 7);
    screen.fact(&format!(
        "everything below lies in {}",
        dirs.root().display()
    ));
    screen.step("A kubelet stand-in starts, then gpushared");
    let kubelet = FakeKubelet::builder(dirs.kubelet())
        .cdi_dir(dirs.cdi())
        .stand_in_devices()
        .start()
        .await;
    let config = daemon_config(&dirs, &gpus);
    let started = Instant::now();
    let mut daemon = DaemonUnderTest::start(&dirs, &config);
    daemon.wait_ready().await;
    let took = started.elapsed();
    screen.fact(&format!(
        "all resources registered {:.0} ms after the daemon was started",
        took.as_secs_f64() * 1e3
    ));
    for (resource, count) in [(GPU, 4), (MIG_1G, 17), (MIG_3G, 3)] {
        kubelet.wait_for_allocatable(resource, count).await;
        screen.check(
            &format!("the node has {count} × {resource}"),
            kubelet.capacity(resource) == Some(count),
        );
    }
    Stage {
        screen,
        gpus,
        kubelet,
        daemon,
        config,
        admitted: 0,
        refused: 0,
        dirs,
    }
}

impl Stage<'_> {
    async fn run(&mut self, name: &str, resource: &str, count: usize) -> Option<PodUid> {
        let spec = PodSpec::one(name, resource, count).namespace("ml");
        match self.kubelet.run_pod(spec).await {
            Ok(pod) => {
                self.admitted += 1;
                Some(pod)
            }
            Err(error) => {
                self.refused += 1;
                self.screen.fact(&format!("{name}: {error}"));
                None
            }
        }
    }

    /// The GPU nodes that a pod's container sees.
    fn nodes(&self, pod: &PodUid) -> Vec<String> {
        let container = self.kubelet.container(pod, "main");
        let nodes = container.iter().flat_map(|container| {
            let devices = container
                .device_nodes
                .iter()
                .map(|node| &node.container_path);
            let stand_ins = container.mounts.iter().map(|mount| &mount.container_path);
            devices.chain(stand_ins)
        });
        let mut found: Vec<String> = nodes
            .filter_map(|path| path.strip_prefix("/dev/"))
            .filter(|name| name.starts_with("nvidia-caps/") || is_gpu_node(name))
            .map(str::to_owned)
            .collect();
        found.sort();
        found
    }

    async fn wait(&self, claim: &str, holds: impl FnMut() -> bool) {
        let mut holds = holds;
        let seen = look_within(PATIENCE, || holds().then_some(()))
            .await
            .is_some();
        self.screen.check(claim, seen);
    }

    async fn status(&self) -> Value {
        self.daemon.status().await
    }

    /// Waits until PodResources was asked and every pod shows up with its slice.
    async fn draw(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut status = self.status().await;
        while status.to_string().contains(r#""container":null"#) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            status = self.status().await;
        }
        self.screen.raw(&picture::node(&status));
    }
}

fn is_gpu_node(name: &str) -> bool {
    name.strip_prefix("nvidia")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

async fn pods_come(stage: &mut Stage<'_>) -> Vec<(String, PodUid)> {
    stage
        .screen
        .step("Pods come: one training on two GPUs, notebooks on 1g.10gb, inference on 3g.40gb");
    let wanted = [
        ("train", GPU, 2),
        ("nb-ada", MIG_1G, 1),
        ("nb-bob", MIG_1G, 1),
        ("nb-cyn", MIG_1G, 1),
        ("infer", MIG_3G, 1),
        ("etl", GPU, 1),
    ];
    let mut pods = Vec::new();
    for (name, resource, count) in wanted {
        if let Some(pod) = stage.run(name, resource, count).await {
            let nodes = stage.nodes(&pod);
            stage
                .screen
                .fact(&format!("{name:7} sees {}", nodes.join(" ")));
            let expected = if resource == GPU { count } else { 3 * count };
            stage.screen.check(
                &format!("{name} sees exactly its {count} × {resource}"),
                nodes.len() == expected,
            );
            pods.push((name.to_owned(), pod));
        } else {
            stage.screen.bad(&format!("{name} runs"));
        }
    }
    stage.draw().await;
    pods
}

async fn a_slice_breaks_and_heals(stage: &Stage<'_>) {
    stage
        .screen
        .step("An Xid on one MIG device: that slice alone is withdrawn, and comes back");
    let before = stage.kubelet.allocatable(MIG_1G).unwrap_or(0);
    let instance = stage.status().await["gpus"][7]["slices"][0].clone();
    let listed = stage.gpus.gpusim(&["show"], &["-o", "json"]);
    let gi = gpu_instance(&listed, 7);
    stage
        .gpus
        .gpusim(&["xid"], &["--gpu", "7", "--gi", &gi, "--xid", "109"]);
    stage
        .wait("one 1g.10gb less can be allocated", || {
            stage.kubelet.allocatable(MIG_1G) == Some(before - 1)
        })
        .await;
    stage
        .screen
        .check("the slice was there before", !instance.is_null());
    stage
        .wait(
            "it is back after the quiet period without further Xids",
            || stage.kubelet.allocatable(MIG_1G) == Some(before),
        )
        .await;
}

/// Id of a GPU's first GPU instance, as the simulator lists it.
fn gpu_instance(listed: &str, gpu: usize) -> String {
    let node: Value = serde_json::from_str(listed).unwrap_or_default();
    let instance = &node["gpus"][gpu]["gis"][0];
    ["id", "gi"]
        .iter()
        .find_map(|key| instance.get(key))
        .map_or_else(|| "0".to_owned(), ToString::to_string)
}

async fn daemon_and_kubelet_die(stage: &mut Stage<'_>, pods: &[(String, PodUid)]) {
    stage
        .screen
        .step("kill -9 of the daemon, then of the kubelet, while the pods run");
    let devices = |stage: &Stage<'_>| -> Vec<Vec<String>> {
        pods.iter().map(|(_, pod)| stage.nodes(pod)).collect()
    };
    let before = devices(stage);
    stage.daemon.kill9();
    stage
        .wait("the kubelet shows nothing to allocate", || {
            stage.kubelet.allocatable(GPU) == Some(0)
        })
        .await;
    stage.daemon = DaemonUnderTest::start(&stage.dirs, &stage.config);
    stage.daemon.wait_ready().await;
    stage
        .wait("the daemon is back with everything", || {
            capacity_is_back(&stage.kubelet)
        })
        .await;
    stage.kubelet.restart_by_kill9().await;
    stage
        .wait("the kubelet has everything again", || {
            capacity_is_back(&stage.kubelet)
        })
        .await;
    let rejected = stage.kubelet.readmit_pods().await;
    stage.screen.check(
        "no pod is rejected when the kubelet admits them again",
        rejected.is_empty(),
    );
    stage.screen.check(
        "every pod has the devices that it had",
        devices(stage) == before,
    );
    let running = pods
        .iter()
        .all(|(_, pod)| stage.kubelet.is_running(pod, "main"));
    stage
        .screen
        .check("no container was started again", running);
}

fn capacity_is_back(kubelet: &FakeKubelet) -> bool {
    [(GPU, 4), (MIG_1G, 17), (MIG_3G, 3)]
        .iter()
        .all(|(resource, count)| kubelet.allocatable(resource) == Some(*count))
}

async fn a_gpu_falls_off_the_bus(stage: &Stage<'_>) {
    stage.screen.step("GPU 3 falls off the bus and is healed");
    stage.gpus.lose(3);
    stage
        .wait("it stays listed and is unhealthy", || {
            stage.kubelet.capacity(GPU) == Some(4) && stage.kubelet.allocatable(GPU) == Some(3)
        })
        .await;
    let deadline = Instant::now() + PATIENCE;
    let lost = |status: &Value| status["gpus"].to_string().contains(r#""cause":"lost""#);
    while !lost(&stage.status().await) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.screen.check(
        "the status says that the GPU is lost",
        lost(&stage.status().await),
    );
    stage.draw().await;
    stage.gpus.heal();
    stage
        .wait("it is back", || stage.kubelet.allocatable(GPU) == Some(4))
        .await;
}

async fn too_much_is_refused(stage: &mut Stage<'_>) {
    stage.screen.step("A pod asks for more than there is");
    let pod = stage.run("greedy", GPU, 3).await;
    stage.screen.check(
        "it is refused and nothing is lost",
        pod.is_none() && capacity_is_back(&stage.kubelet),
    );
}

async fn pods_go(stage: &Stage<'_>, pods: &[(String, PodUid)]) {
    stage
        .screen
        .step("The pods go; nobody tells the daemon, it sees so in PodResources");
    for (_, pod) in pods {
        stage.kubelet.remove_pod(pod);
    }
    let deadline = Instant::now() + PATIENCE;
    let leased = |status: &Value| -> u64 {
        let resources = status["resources"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        resources
            .iter()
            .filter_map(|resource| resource["leased"].as_u64())
            .sum()
    };
    while leased(&stage.status().await) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.screen.check(
        "every lease is released",
        leased(&stage.status().await) == 0,
    );
    let left = std::fs::read_dir(stage.dirs.cdi()).map_or(usize::MAX, Iterator::count);
    stage.screen.check("no CDI file is left", left == 0);
    stage.draw().await;
}

async fn finish(mut stage: Stage<'_>) -> bool {
    let stopped = stage.daemon.term().await;
    stage
        .screen
        .check("the daemon stops cleanly on SIGTERM", stopped.success());
    let violations = stage.kubelet.take_violations();
    for violation in &violations {
        stage.screen.fact(&format!("{violation:?}"));
    }
    stage.screen.check(
        "the kubelet would never have crashed over us",
        violations.is_empty(),
    );
    let (good, bad) = stage.screen.counts();
    stage.screen.step("Summary");
    stage.screen.fact(&format!(
        "{} pods admitted, {} refused; {good} claims held, {bad} did not; {:.1} s",
        stage.admitted,
        stage.refused,
        stage.screen.seconds()
    ));
    stage
        .screen
        .fact("the GPUs, the driver and the kubelet were simulated; the daemon was the real one");
    bad == 0
}
