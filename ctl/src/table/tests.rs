use super::*;

/// As the daemon sends it; also pins the form that scripts read.
const STATUS: &str = r#"{
  "version": 1,
  "daemon": {"version": "0.1.0", "pid": 7, "started_at": 1000, "generation": 3, "ready": false,
    "waiting_for": ["nvidia.com/gpu: kubelet.sock is missing"], "device_list_strategy": "cdi"},
  "driver": {"driver_version": "570.124.06", "nvml_version": "12.570.124.06", "cuda_version": 12080, "simulated": true},
  "gpus": [
    {"uuid": "GPU-00000000-0000-0000-0000-000000000000", "index": 0, "name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559,
     "pci": "0000:1b:00.0", "numa_node": 0, "mig_mode": "enabled", "present": true, "conditions": [],
     "slices": [
       {"id": "GPU-00000000-0000-0000-0000-000000000000/mig/19@6", "kind": "mig", "resource": "nvidia.com/mig-1g.10gb",
        "placement": [6, 1], "mig_uuid": "MIG-00000000-0000-0000-0000-000000000000", "healthy": true, "why_unhealthy": [],
        "lease": {"state": "in-use", "container": {"namespace": "ml", "pod": "train-0", "container": "main"}, "granted_at": 400}},
       {"id": "GPU-00000000-0000-0000-0000-000000000000/mig/19@5", "kind": "mig", "resource": "nvidia.com/mig-1g.10gb",
        "placement": [5, 1], "mig_uuid": null, "healthy": false, "why_unhealthy": ["Xid 109"], "lease": null}]},
    {"uuid": "GPU-00000000-0000-0000-0000-000000000001", "index": 4294967295, "name": "unknown GPU", "memory_mib": 0,
     "pci": "", "numa_node": null, "mig_mode": "unsupported", "present": false,
     "conditions": [{"cause": "lost", "recovery": "when-probed", "since": 1, "last": 2, "count": 3}], "slices": []}
  ],
  "resources": [{"name": "nvidia.com/mig-1g.10gb", "registered": true, "capacity": 2, "allocatable": 1, "leased": 1}],
  "left_out": [{"what": "GPU-…1", "why": "excluded by the configuration"}]
}"#;

#[test]
fn the_table_shows_gpus_slices_holders_and_what_is_wrong() {
    let status: NodeStatus = serde_json::from_str(STATUS).expect("the daemon's form");
    let text = node(&status, 1100);
    let wanted = "\
gpushared 0.1.0 (pid 7), not ready, up 100s
driver 570.124.06, CUDA 12.8  SIMULATED GPUs
waiting: nvidia.com/gpu: kubelet.sock is missing

GPU  SLICE                       PLACE                                     HEALTH       LEASE   CONTAINER        FOR
0    NVIDIA H100 80GB HBM3, MIG  GPU-00000000-0000-0000-0000-000000000000  ok           -
       mig-1g.10gb               6..7                                      ok           in-use  ml/train-0/main  11m
       mig-1g.10gb               5..6                                      Xid 109      -
-    unknown GPU                 GPU-00000000-0000-0000-0000-000000000001  GPU is lost  -

RESOURCE                CAPACITY  ALLOCATABLE  LEASED  REGISTERED
nvidia.com/mig-1g.10gb  2         1            1       yes

not offered:
  GPU-…1: excluded by the configuration
";
    assert_eq!(text, wanted, "\n{text}");
}

#[test]
fn ages_are_short() {
    assert_eq!(
        [0, 119, 120, 7_199, 7_200, 200_000].map(age),
        ["0s", "119s", "2m", "119m", "2h", "2d"]
    );
}
