"""gpushared beside nvidia-device-plugin on one node: what a pod asks for and gets has to be the same."""

import json
import os
import re

from harness import DEVICE_PLUGIN, GPUSHARED, Node, Skipped, case, equal, wait_until

GPU = "nvidia.com/gpu"
ONE = "nvidia.com/mig-1g.10gb"
THREE = "nvidia.com/mig-3g.40gb"
CONFIG = """\
version: v1
driver:
  library: {dir}/lib/libnvidia-ml.so.1
  root: {dir}
  sysroot: {dir}
kubelet:
  devicePlugins: {dir}/kubelet/device-plugins
  podResources: {dir}/kubelet/pod-resources/kubelet.sock
containers:
  deviceListStrategy: {strategy}
  cdiDir: {dir}/cdi
paths:
  state: {dir}/state-of-gpushared
  run: {dir}/run
admin:
  http: "off"
"""


def cut_node():
    """7 × 1g.10gb, 2 × 3g.40gb, and a whole GPU."""
    node = Node("h100-80gb:3")
    node.cut(0)
    node.cut(1, "3g.40gb", 2)
    return node


def nvidia(node, *arguments):
    """What the plugin lists, and the kubelet to ask it further."""
    kubelet = node.kubelet()
    program = node.start("env", "-C", "/var/lib/kubelet/device-plugins", DEVICE_PLUGIN,
                         "--kubelet-socket=kubelet.sock", "--mig-strategy=mixed",
                         f"--driver-root-ctr-path={node.dir}", *arguments)
    return kubelet, program


def gpushared(node, strategy):
    """The same of our daemon, which needs none of the files of a namespace."""
    if not os.access(GPUSHARED, os.X_OK):
        raise Skipped("gpushared is not built")
    config = node.write("gpushared.yaml", CONFIG.format(dir=node.dir, strategy=strategy))
    kubelet = node.kubelet()
    program = node.start(GPUSHARED, "run", "--config", config)
    return kubelet, program


def listed(kubelet):
    """Waits for the three resources; answers all: resource → list."""
    for resource, count in ((ONE, 7), (THREE, 2), (GPU, 1)):
        kubelet.until_listed(resource, count)
    return kubelet.resources()


def instances(node):
    """Both daemons' IDs of each MIG device: NVIDIA's → ours."""
    pairs = {}
    for gpu in node.show()["gpus"]:
        for gi in gpu["gis"]:
            pairs[gi["cis"][0]["uuid"]] = f"{gpu['uuid']}/mig/{gi['profile']}@{gi['start']}"
    return pairs


@case("gpushared beside nvidia-device-plugin: resources, counts, health, NUMA nodes")
def resources():
    node = cut_node()
    kubelet, program = nvidia(node)
    theirs = listed(kubelet)
    program.close()
    kubelet, program = gpushared(node, "cdi")
    ours = listed(kubelet)
    equal(set(ours), set(theirs), "resources")
    ids = instances(node)
    for resource, devices in theirs.items():
        for id, device in devices.items():
            same = ours[resource].get(ids.get(id, id))
            assert same, f"{resource}: {id} is not among {sorted(ours[resource])}"
            equal((same["health"], same["numa"]), (device["health"], device["numa"]), f"{resource}: {id}")


@case("gpushared beside nvidia-device-plugin: device files and visible devices of an Allocate")
def allocate():
    node = cut_node()
    kubelet, program = nvidia(node, "--pass-device-specs")
    lists = listed(kubelet)
    theirs = {id: kubelet.allocate(resource, [id]) for resource, devices in lists.items() for id in devices}
    program.close()
    ids = instances(node)

    kubelet, program = gpushared(node, "device-nodes")
    lists = listed(kubelet)
    of = {id: resource for resource, devices in lists.items() for id in devices}
    for id, answer in theirs.items():
        ours = kubelet.allocate(of[ids.get(id, id)], [ids.get(id, id)])
        equal(files(ours), files(answer), f"device files of {id}")
    program.close()

    kubelet, program = gpushared(node, "env")
    listed(kubelet)
    for id, answer in theirs.items():
        ours = kubelet.allocate(of[ids.get(id, id)], [ids.get(id, id)])
        equal(ours["envs"].get("NVIDIA_VISIBLE_DEVICES"), answer["envs"]["NVIDIA_VISIBLE_DEVICES"],
              f"visible device of {id}")


def files(answer):
    """Device files in the container, less those that no compute job opens."""
    return sorted(it["container"] for it in answer["devices"] if "modeset" not in it["container"])


@case("gpushared beside nvidia-device-plugin: device files of the CDI devices")
def cdi():
    node = cut_node()
    kubelet, program = nvidia(node, "--device-list-strategy=cdi-cri")
    listed(kubelet)
    theirs = cdi_devices(json.loads(node.read("cdi/k8s.device-plugin.nvidia.com-gpu.json")))
    program.close()
    kubelet, program = gpushared(node, "cdi")
    lists = listed(kubelet)
    ids = instances(node)
    of = {id: resource for resource, devices in lists.items() for id in devices}
    for id, wanted in theirs.items():
        (name,) = kubelet.allocate(of[ids.get(id, id)], [ids.get(id, id)])["cdi"]
        equal(our_cdi_device(node, name), wanted, f"device files of {id}")


def cdi_devices(spec):
    """Device → its files with what all devices of the spec get."""
    common = device_files(spec.get("containerEdits", {}))
    return {it["name"]: sorted(common + device_files(it["containerEdits"])) for it in spec["devices"]}


def device_files(edits):
    return [it["path"] for it in edits.get("deviceNodes", []) if "modeset" not in it["path"]]


def our_cdi_device(node, name):
    kind, device = re.fullmatch(r"([^=]+)=(.+)", name).groups()

    def look():
        for file in os.listdir(os.path.join(node.dir, "cdi")):
            spec = json.loads(node.read("cdi/" + file)) if file.endswith(".json") else {}
            if spec.get("kind") == kind and device in cdi_devices(spec):
                return cdi_devices(spec)[device]
        return None

    return wait_until(f"the CDI file of {name}", look)
