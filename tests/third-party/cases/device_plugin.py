"""nvidia-device-plugin: NVIDIA's Kubernetes plugin over NVML of the simulator, against the kubelet stand-in."""

import json

from harness import DEVICE_PLUGIN, Node, case, equal, wait_until

GPU = "nvidia.com/gpu"
ONE = "nvidia.com/mig-1g.10gb"
THREE = "nvidia.com/mig-3g.40gb"
CONTROL = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"]


class Plugin:
    """The plugin on a node that has a kubelet."""

    def __init__(self, node, strategy, *arguments, env=None):
        self.node, self.kubelet = node, node.kubelet()
        # The socket by a relative path: grpc-go makes the path the `:authority` of its call, and the HTTP/2 server of
        # the kubelet stand-in refuses one with slashes in it.
        self.program = node.start("env", "-C", "/var/lib/kubelet/device-plugins", DEVICE_PLUGIN,
                                  "--kubelet-socket=kubelet.sock", f"--mig-strategy={strategy}",
                                  f"--driver-root-ctr-path={node.dir}", *arguments, env=env)

    def until_ended(self):
        """Waits for the end; answers the exit code."""
        wait_until("the plugin's end", lambda: self.program.ended() is not None)
        return self.program.ended()


def gpu_uuids(node):
    return [gpu["uuid"] for gpu in node.show()["gpus"]]


def mig_uuids(node, gpu=None):
    """Uuids of all MIG devices, or of those of one GPU."""
    gpus = node.show()["gpus"]
    return {ci["uuid"] for it in gpus if gpu in (None, it["slot"]) for gi in it["gis"] for ci in gi["cis"]}


@case("nvidia-device-plugin: strategy none offers whole GPUs, with their NUMA nodes")
def none():
    node = Node("h100-80gb:8")
    plugin = Plugin(node, "none")
    devices = plugin.kubelet.until_listed(GPU, 8)
    equal(set(devices), set(gpu_uuids(node)), "IDs")
    for gpu in node.show()["gpus"]:
        numa = node.read(f"sys/bus/pci/devices/{gpu['pci'][4:].lower()}/numa_node").strip()
        equal(devices[gpu["uuid"]]["numa"], [int(numa)], f"NUMA node of {gpu['uuid']}")
    equal(set(plugin.kubelet.health(GPU).values()), {"Healthy"}, "health")
    pair = sorted(devices)[:2]
    visible = plugin.kubelet.allocate(GPU, pair)["envs"]["NVIDIA_VISIBLE_DEVICES"]
    equal(sorted(visible.split(",")), pair, "visible devices")
    # All but two: it walks the links between the GPUs for this.
    equal(len(set(plugin.kubelet.prefer(GPU, sorted(devices), 6))), 6, "preferred devices")


@case("nvidia-device-plugin: strategy none offers a GPU in MIG mode as a whole one (M22)")
def none_with_mig():
    node = Node("h100-80gb:2")
    node.cut(0)
    Plugin(node, "none").kubelet.until_listed(GPU, 2)


@case("nvidia-device-plugin: strategy single")
def single():
    node = Node("h100-80gb:2")
    node.cut(0)
    node.cut(1)
    kubelet = Plugin(node, "single").kubelet
    equal(set(kubelet.until_listed(GPU, 14)), mig_uuids(node), "IDs")
    equal(set(kubelet.resources()), {GPU}, "resources")


@case("nvidia-device-plugin: strategy single refuses mixed profiles and an empty GPU (M18)")
def single_refuses():
    node = Node("h100-80gb:2")
    node.cut(0)
    node.cut(1, "3g.40gb", 2)
    plugin = Plugin(node, "single")
    assert plugin.until_ended() != 0
    assert "more than one MIG device type" in plugin.program.output(), plugin.program.output()[-800:]
    node.sim("mig", "destroy", gpu=1, all=True)
    assert Plugin(node, "single").until_ended() != 0


@case("nvidia-device-plugin: strategy mixed, with device files and capability files")
def mixed():
    node = Node("h100-80gb:3")
    node.cut(0)
    node.cut(1, "3g.40gb", 2)
    kubelet = Plugin(node, "mixed", "--pass-device-specs").kubelet
    equal(set(kubelet.until_listed(ONE, 7)), mig_uuids(node, 0), "IDs of 1g.10gb")
    equal(set(kubelet.until_listed(THREE, 2)), mig_uuids(node, 1), "IDs of 3g.40gb")
    equal(set(kubelet.until_listed(GPU, 1)), {gpu_uuids(node)[2]}, "IDs of whole GPUs")
    equal(set(kubelet.resources()), {GPU, ONE, THREE}, "resources")
    minors = dict(line.rsplit(" ", 1) for line in node.read("proc/driver/nvidia-caps/mig-minors").splitlines())
    gpu = node.show()["gpus"][1]
    for gi in gpu["gis"]:
        answer = kubelet.allocate(THREE, [gi["cis"][0]["uuid"]])
        names = f"gpu{gpu['minor']}/gi{gi['id']}/access", f"gpu{gpu['minor']}/gi{gi['id']}/ci0/access"
        caps = [f"/dev/nvidia-caps/nvidia-cap{minors[name]}" for name in names]
        wanted = [*CONTROL, f"/dev/nvidia{gpu['minor']}", *caps]
        equal(sorted(it["host"] for it in answer["devices"]), sorted(wanted), "device files")
        equal(answer["envs"]["NVIDIA_VISIBLE_DEVICES"], gi["cis"][0]["uuid"], "visible device")


@case("nvidia-device-plugin: CDI names, and the spec behind them")
def cdi():
    node = Node("h100-80gb:2")
    node.cut(0)
    kubelet = Plugin(node, "mixed", "--device-list-strategy=cdi-cri").kubelet
    kubelet.until_listed(ONE, 7)
    kubelet.until_listed(GPU, 1)
    uuid = sorted(mig_uuids(node))[0]
    answer = kubelet.allocate(ONE, [uuid])
    equal(answer["cdi"], [f"k8s.device-plugin.nvidia.com/gpu={uuid}"], "CDI names")
    assert "NVIDIA_VISIBLE_DEVICES" not in answer["envs"], answer["envs"]
    spec = json.loads(node.read("cdi/k8s.device-plugin.nvidia.com-gpu.json"))
    devices = {it["name"]: it["containerEdits"]["deviceNodes"] for it in spec["devices"]}
    equal(set(devices), {*mig_uuids(node), gpu_uuids(node)[1]}, "devices of the spec")
    equal([it["path"].rstrip("0123456789") for it in devices[uuid]],
          ["/dev/nvidia", "/dev/nvidia-caps/nvidia-cap", "/dev/nvidia-caps/nvidia-cap"], "device files of the spec")
    mounts = [it["hostPath"].rsplit("/", 1)[-1] for it in spec["containerEdits"]["mounts"]]
    assert any(name.startswith("libcuda.so.") for name in mounts), mounts


@case("nvidia-device-plugin: time-slicing of MIG devices")
def time_slicing():
    node = Node("h100-80gb:1")
    node.cut(0)
    config = node.write("plugin.yaml", json.dumps({"version": "v1", "sharing": {"timeSlicing": {"resources": [
        {"name": ONE, "replicas": 4}]}}}))
    kubelet = Plugin(node, "mixed", f"--config-file={config}").kubelet
    devices = kubelet.until_listed(ONE, 28)
    equal({id.split("::")[0] for id in devices}, mig_uuids(node), "devices behind the replicas")


@case("nvidia-device-plugin: an Xid makes a GPU unhealthy, for good (M8); an ignored one does not")
def health():
    node = Node("h100-80gb:2")
    kubelet = Plugin(node, "none").kubelet
    kubelet.until_listed(GPU, 2)
    first, second = gpu_uuids(node)
    until_registered_for_events(node, 2)
    node.sim("xid", gpu=0, xid=13)
    node.sim("xid", gpu=1, xid=79)
    wait_until("the unhealthy GPU", lambda: kubelet.health(GPU)[second] == "Unhealthy")
    equal(kubelet.health(GPU)[first], "Healthy", "the other GPU")
    node.sim("heal", gpu=1)
    until_waited_in_vain(node, times=2)
    equal(kubelet.health(GPU)[second], "Unhealthy", "the GPU after it was healed")


def until_registered_for_events(node, gpus):
    wait_until("the plugin's wait for events", lambda: node.calls().get("nvmlEventSetWait_v2"))
    count = node.calls()["nvmlDeviceRegisterEvents"][0]
    assert count >= gpus, f"events registered for {count} GPUs of {gpus}"


def until_unhealthy(node, kubelet, resource, count):
    """Waits until this many devices are unhealthy, and until the plugin has heard all that there is to hear."""
    def unhealthy():
        return list(kubelet.health(resource).values()).count("Unhealthy")

    wait_until(f"{count} unhealthy devices of {resource}", lambda: unhealthy() >= count)
    until_waited_in_vain(node)
    equal(unhealthy(), count, f"unhealthy devices of {resource}")


def until_waited_in_vain(node, times=1):
    """Waits until the plugin's wait for events has run out: every event before that was delivered, one by one.

    Twice is at least once from beginning to end, which takes 5 s.
    """
    def in_vain():
        return node.calls()["nvmlEventSetWait_v2"][1]

    before = in_vain()
    wait_until("a wait for events that runs out", lambda: in_vain() >= before + times)


@case("nvidia-device-plugin: an Xid of a MIG GPU reaches one of its devices (M11), of a replica one of four (M10)")
def health_of_shares():
    """Facts that gpushared is measured against; a change here is news of the plugin, not a fault of ours."""
    node = Node("h100-80gb:1")
    node.cut(0)
    kubelet = Plugin(node, "mixed").kubelet
    kubelet.until_listed(ONE, 7)
    until_registered_for_events(node, 1)
    node.sim("xid", gpu=0, xid=48)
    until_unhealthy(node, kubelet, ONE, 1)

    node = Node("h100-80gb:2")
    config = node.write("plugin.yaml", json.dumps({"version": "v1", "sharing": {"timeSlicing": {"resources": [
        {"name": GPU, "replicas": 4}]}}}))
    kubelet = Plugin(node, "none", f"--config-file={config}").kubelet
    kubelet.until_listed(GPU, 8)
    until_registered_for_events(node, 2)
    node.sim("xid", gpu=0, xid=48)
    until_unhealthy(node, kubelet, GPU, 1)


@case("nvidia-device-plugin: Xids of single GPU instances, of which most are dropped (M11)")
def health_of_instances():
    node = Node("h100-80gb:1")
    node.cut(0)
    kubelet = Plugin(node, "mixed").kubelet
    kubelet.until_listed(ONE, 7)
    until_registered_for_events(node, 1)
    for gi in node.show()["gpus"][0]["gis"]:
        node.sim("xid", gpu=0, xid=48, gi=gi["id"], ci=0)
    until_unhealthy(node, kubelet, ONE, 1)


@case("nvidia-device-plugin: a lost GPU")
def lost():
    """Its Xid comes first; then every wait for events fails, and the plugin takes that for a failure of all GPUs."""
    node = Node("h100-80gb:2")
    kubelet = Plugin(node, "none").kubelet
    kubelet.until_listed(GPU, 2)
    first, second = gpu_uuids(node)
    until_registered_for_events(node, 2)
    node.sim("lose", gpu=1)
    wait_until("the lost GPU", lambda: kubelet.health(GPU)[second] == "Unhealthy")
    wait_until("the other GPU", lambda: kubelet.health(GPU)[first] == "Unhealthy")


@case("nvidia-device-plugin: a layout that changes under it goes unseen (M7)")
def blind():
    node = Node("h100-80gb:1")
    node.cut(0)
    kubelet = Plugin(node, "mixed").kubelet
    before = set(kubelet.until_listed(ONE, 7))
    until_registered_for_events(node, 1)
    node.sim("mig", "destroy", gpu=0, all=True)
    until_waited_in_vain(node, times=2)
    equal(set(kubelet.devices(ONE)), before, "IDs after all were destroyed")
    gone = sorted(before)[0]
    equal(kubelet.allocate(ONE, [gone])["envs"]["NVIDIA_VISIBLE_DEVICES"], gone, "the device that it hands out")
