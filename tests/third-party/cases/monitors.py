"""nvitop and gpustat: programs of others that read NVML, run once."""

import os

from harness import VENV, Node, case, equal


def once(program, *arguments):
    node = Node("h100-80gb:2,t4-16gb:1")
    node.cut(0, "3g.40gb", 2)
    return node, node.run(os.path.join(VENV, "bin", program), *arguments).stdout


@case("nvitop: one look at a node")
def nvitop():
    node, text = once("nvitop", "-1", "--colorful")
    for word in ("H100", "T4", node.show()["driver"]):
        assert word in text, f"{word!r} is not in what nvitop shows:\n{text}"


@case("gpustat: one look at a node, as JSON")
def gpustat():
    import json

    node, text = once("gpustat", "--json")
    shown = json.loads(text)
    equal([gpu["uuid"] for gpu in shown["gpus"]], [gpu["uuid"] for gpu in node.show()["gpus"]], "GPUs")
    equal([gpu["memory.total"] for gpu in shown["gpus"]], [81559, 81559, 15360], "memory in MiB")
