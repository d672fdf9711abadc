"""nvidia-mig-parted: NVIDIA's declarative MIG layouts, over NVML of the simulator."""

import json
import os

from harness import GPUSIM, MIG_PARTED, Node, case, equal, wait_until

# All GPUs of a node: the layouts that every H100-80GB (and A100-80GB) can have.
CONFIG = """\
version: v1
mig-configs:
  all-disabled:
    - devices: all
      mig-enabled: false
  all-enabled:
    - devices: all
      mig-enabled: true
      mig-devices: {}
  all-1g.10gb:
    - devices: all
      mig-enabled: true
      mig-devices: {"1g.10gb": 7}
  all-balanced:
    - devices: all
      mig-enabled: true
      mig-devices: {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
  one-less:
    - devices: all
      mig-enabled: true
      mig-devices: {"1g.10gb": 1, "2g.20gb": 1, "3g.40gb": 1}
  first-only:
    - devices: [0]
      mig-enabled: true
      mig-devices: {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
    - devices: [1]
      mig-enabled: false
  split:
    - devices: all
      mig-enabled: true
      mig-devices: {"1c.3g.40gb": 3, "3g.40gb": 1}
  impossible:
    - devices: all
      mig-enabled: true
      mig-devices: {"3g.40gb": 2, "2g.20gb": 1}
  unknown:
    - devices: all
      mig-enabled: true
      mig-devices: {"9g.90gb": 1}
"""


class Parted:
    """mig-parted on a node."""

    def __init__(self, gpus):
        self.node = Node(gpus)
        self.config = self.node.write("layouts.yaml", CONFIG)

    def verb(self, verb, config, rc=0):
        return self.node.run(MIG_PARTED, verb, "--config-file", self.config, "--selected-config", config, rc=rc)

    def apply(self, config, rc=0):
        return self.verb("apply", config, rc)

    def check(self, config, rc=0):
        """Runs its own check of the node against a layout."""
        return self.verb("assert", config, rc)

    def export(self):
        """The layout as it reads it: per group of equal GPUs (devices, profile → count or None)."""
        answer = json.loads(self.node.run(MIG_PARTED, "export", "--output-format", "json").stdout)
        (groups,) = answer["mig-configs"].values()
        return [(it["devices"], it.get("mig-devices", {}) if it["mig-enabled"] else None) for it in groups]

    def changes(self):
        """Successful creations and destructions of GPU instances since the last time."""
        calls = self.node.calls()
        self.node.forget_calls()

        def done(name):
            count, errors = calls.get(name, (0, 0))
            return count - errors

        return done("nvmlDeviceCreateGpuInstance"), done("nvmlGpuInstanceDestroy")


BALANCED = {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}


def layouts(count):
    """From nothing to 7 × 1g.10gb, to a balanced layout and back to whole GPUs."""
    parted = Parted(f"h100-80gb:{count}")
    equal(parted.export(), [("all", None)], "export of whole GPUs")
    parted.check("all-disabled")
    parted.check("all-1g.10gb", rc=1)
    parted.node.forget_calls()

    parted.apply("all-1g.10gb")
    equal(parted.changes(), (7 * count, 0), "GPU instances created and destroyed")
    parted.check("all-1g.10gb")
    parted.check("all-disabled", rc=1)
    parted.check("all-balanced", rc=1)
    equal(parted.export(), [("all", {"1g.10gb": 7})], "export of 7 × 1g.10gb")
    equal(parted.node.layout(), [[("1g.10gb", start) for start in range(7)]] * count, "layout")

    parted.node.forget_calls()
    parted.apply("all-1g.10gb")
    equal(parted.changes(), (0, 0), "GPU instances created and destroyed for a layout that is there")

    parted.apply("all-balanced")
    equal(parted.changes(), (4 * count, 7 * count), "GPU instances created and destroyed")
    parted.check("all-balanced")
    equal(parted.export(), [("all", BALANCED)], "export of the balanced layout")

    parted.apply("all-disabled")
    equal(parted.changes(), (0, 4 * count), "GPU instances created and destroyed")
    parted.check("all-disabled")
    equal(parted.export(), [("all", None)], "export of whole GPUs")


@case("nvidia-mig-parted: layouts on 2 H100")
def two():
    layouts(2)


@case("nvidia-mig-parted: layouts on 8 H100")
def eight():
    layouts(8)


@case("nvidia-mig-parted: a checkpoint is restored")
def checkpoint():
    parted = Parted("h100-80gb:2")
    parted.apply("all-balanced")
    before = parted.node.layout()
    file = os.path.join(parted.node.dir, "checkpoint.json")
    parted.node.run(MIG_PARTED, "checkpoint", "--checkpoint-file", file)
    parted.apply("all-disabled")
    parted.node.run(MIG_PARTED, "restore", "--checkpoint-file", file)
    equal(parted.node.layout(), before, "layout after the restore")


@case("nvidia-mig-parted: compute instances that share a GPU instance")
def split():
    parted = Parted("h100-80gb:1")
    parted.apply("split")
    parted.check("split")
    equal(parted.export(), [("all", {"1c.3g.40gb": 3, "3g.40gb": 1})], "export")
    (gpu,) = parted.node.show()["gpus"]
    equal(sorted(len(gi["cis"]) for gi in gpu["gis"]), [1, 3], "compute instances per GPU instance")


@case("nvidia-mig-parted: an A100 takes its mode after a reset")
def reset():
    parted = Parted("a100-80gb:2")
    parted.apply("all-balanced")
    parted.check("all-balanced")
    (resets,) = parted.node.read("resets").splitlines()
    equal(len(resets.split(",")), 2, "GPUs of the one reset")
    equal(parted.export(), [("all", BALANCED)], "export")
    # The mode stays pending without a reset, and a layout cannot be made then.
    parted.apply("all-disabled")
    parted.node.run(MIG_PARTED, "apply", "--config-file", parted.config, "--selected-config", "all-1g.10gb",
                    "--skip-reset", rc=1)
    equal([gpu["mig"] for gpu in parted.node.show()["gpus"]], [{"current": 0, "pending": 1}] * 2, "MIG mode")


@case("nvidia-mig-parted: what incumbents.md M1 to M5 tell of it")
def known_faults():
    """Facts that gpushared is measured against; a change here is news of mig-parted, not a fault of ours."""
    parted = Parted("h100-80gb:2")
    parted.apply("all-balanced")
    parted.changes()

    parted.apply("one-less")
    equal(parted.changes(), (6, 8), "M2: GPU instances created and destroyed to remove one of each GPU")

    parted.apply("first-only")
    parted.changes()
    parted.apply("all-balanced")
    equal(parted.changes(), (8, 4), "M3: GPU instances created and destroyed to cut the second GPU only")

    busy = parted.node.show()["gpus"][0]["gis"]
    middle = next(gi for gi in busy if gi["name"] == "2g.20gb")
    tenant = parted.node.start(GPUSIM, "client", parted.node.dir, "--gpu", "0", "--gi",
                               str(middle["id"]), "--ci", str(middle["cis"][0]["id"]), "--", "sleep", "60")
    wait_until("the tenant", lambda: parted.node.show()["clients"])
    before = parted.node.layout()
    parted.apply("one-less", rc=1)
    after = parted.node.layout()
    assert len(after[0]) < len(before[0]), "M4: the idle instances of a GPU with a busy one were kept"
    equal(after[1], before[1], "M4: the second GPU, never touched")
    tenant.close()

    parted.apply("all-balanced")
    parted.apply("impossible", rc=1)
    equal(parted.node.layout()[0], [], "M5: the layout after an impossible one was asked for")

    parted.apply("all-balanced")
    parted.apply("unknown")
    equal(parted.node.layout(), [[], []], "M1: the layout after an unknown profile was asked for, with success")
