"""`processes`: a process that holds 1 GiB is in NVML's process lists, with its memory; what a context costs besides."""

import importlib.util
import json
import os
import subprocess
import sys
import threading

import machine
from results import Findings, Skipped

GIB = 1 << 30
MIB = 1 << 20
# No context is larger; what is more belongs to somebody else.
LARGEST_CONTEXT = 2 * GIB
LIMIT = 180

READER = """
import ctypes, json, sys
import abi, machine
library = ctypes.CDLL(machine.NVML)
assert library.nvmlInit_v2() == 0
seen = {}
for index in range(int(sys.argv[1])):
    device = abi.Handle()
    library.nvmlDeviceGetHandleByIndex_v2(index, device.argument({}))
    world = {"device": device.value().value}
    for version, entry in (("", abi.ProcessV1), ("_v2", abi.ProcessV2), ("_v3", abi.ProcessV2)):
        count, entries = abi.count(64), abi.Buffer(entry, 64)
        answer = abi.call(library, world, "nvmlDeviceGetComputeRunningProcesses" + version,
                          [abi.DEVICE, count, entries])
        seen[f"GPU {index}, {version or 'unversioned'}"] = {
            "rc": answer["rc"], "entries": entries.seen()[:count.value().value if answer["rc"] == "SUCCESS" else 0]}
print(json.dumps(seen))
"""


def run(found, results):
    """Passes when every way of holding memory that can run here shows up in the lists with at least its memory."""
    findings, report = Findings(), {}
    if "on" in found["mig"]:
        raise Skipped("a GPU has MIG on: what it holds is on a MIG device, if there is one")
    ways = ["cuda"]
    if importlib.util.find_spec("torch") is None:
        findings.say("without PyTorch: it is not installed")
    elif found["simulated"]:
        findings.say("without PyTorch: its CUDA runtime refuses a simulated driver")
    else:
        ways.append("torch")
    wrong = []
    for way in ways:
        report[way] = held(way, len(found["gpus"]))
        wrong += judged(way, report[way], findings)
    results.write("processes.json", report)
    assert not wrong, "; ".join(wrong)
    return findings


def held(way, gpus):
    """What the lists show before, while and after a process holds memory."""
    before = lists(gpus)
    program = subprocess.Popen([sys.executable, "-B", os.path.join(machine.HERE, "holder.py"), way, str(GIB)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    too_late = threading.Timer(LIMIT, program.kill)
    too_late.start()
    try:
        line = program.stdout.readline()
        assert line, f"{way}: {program.stderr.read()[-2000:] or f'killed, or ended, within {LIMIT} s'}"
        while_held = lists(gpus)
        program.communicate("", timeout=LIMIT)
    finally:
        too_late.cancel()
        program.kill()
        program.wait()
    return {"holder": json.loads(line), "before": before, "while held": while_held, "after": lists(gpus)}


def lists(gpus):
    """The process lists of all GPUs, read by another process."""
    environment = {**os.environ, "PYTHONPATH": machine.HERE}
    done = subprocess.run([sys.executable, "-B", "-c", READER, str(gpus)], capture_output=True, text=True,
                          timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def judged(way, seen, findings):
    """What is wrong with that, and lines for the summary."""
    pid, wrong = seen["holder"]["pid"], []
    for version in ("unversioned", "_v2", "_v3"):
        name = f"GPU 0, {version}"
        answer = seen["while held"][name]
        mine = [it for it in answer["entries"] if it["pid"] == pid]
        # In a container without the host's process ids the new entry is ours, whatever its number.
        known = {it["pid"] for it in seen["before"][name]["entries"]}
        new = [it for it in answer["entries"] if it["pid"] not in known]
        entry = (mine or new or [None])[0]
        if entry is None:
            wrong.append(f"{way}: no entry in the {version} list ({answer['rc']})")
            continue
        named = "its pid" if mine else f"another pid ({entry['pid']} instead of {pid})"
        used = entry["used"]
        if used == 2 ** 64 - 1:
            findings.say(f"{way}, {version} list: {named}, memory not told")
            continue
        findings.say(f"{way}, {version} list: {named}, {used / MIB:.0f} MiB for 1024 MiB: a context costs "
                     f"{(used - GIB) / MIB:.0f} MiB; ids {entry.get('gi', '-')}, {entry.get('ci', '-')}")
        if not GIB <= used <= GIB + LARGEST_CONTEXT:
            wrong.append(f"{way}: {used} bytes in the {version} list for {GIB}")
    left = [it for it in seen["after"]["GPU 0, _v3"]["entries"] if it["pid"] == pid]
    if left:
        wrong.append(f"{way}: still in the list after its end")
    for name, answer in seen["holder"].items():
        if name.startswith("cuGet"):
            findings.say(f"{name}: code {answer['code']}, status {answer['status']}, pointer {answer['pointer']}")
    return wrong
