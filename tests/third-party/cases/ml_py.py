"""nvidia-ml-py, NVIDIA's Python bindings: each program asserts what it reads."""

from harness import Node, case


@case("nvidia-ml-py: inventory of whole GPUs")
def inventory():
    Node("h100-80gb:2,a100-40gb:1,t4-16gb:1").python("inventory.py")


@case("nvidia-ml-py: create and destroy MIG instances, also seen by a second process")
def mig():
    Node("h100-80gb:1").python("mig.py")


@case("nvidia-ml-py: events with Xid of GPU, GPU instance and compute instance")
def events():
    Node("h100-80gb:2").python("events.py")


@case("nvidia-ml-py: process lists of every version")
def processes():
    Node("h100-80gb:1").python("processes.py")


@case("nvidia-ml-py: telemetry of a busy GPU and of a MIG device")
def telemetry():
    Node("h100-80gb:1").python("telemetry.py")


@case("nvidia-ml-py: error codes of a lost GPU, an absent driver, a version mismatch")
def errors():
    Node("h100-80gb:2").python("errors.py")
