"""`daemon`: gpushared on the machine's driver, with a kubelet stand-in and a temporary folder for everything else."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time

import machine
from results import Findings

RESOURCE = "nvidia.com/gpu"
PATIENCE = 60
SETTLE = 3

CONFIG = """version: v1
driver:
  {library}
  root: {root}
  sysroot: {sysroot}
kubelet:
  devicePlugins: {folder}/plugins
  podResources: {folder}/pod-resources.sock
containers:
  deviceListStrategy: device-nodes
  cdiDir: {folder}/cdi
paths:
  state: {folder}/state
  run: {folder}/run
admin:
  socket: {folder}/run/admin.sock
  http: "off"
"""


class Kubelet:
    """The kubelet stand-in: events in, calls out, one JSON line each."""

    def __init__(self, folder):
        self.program = subprocess.Popen([machine.program("kubelet-stand-in"), folder], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.until(lambda line: line.get("event") == "serving", "the kubelet stand-in")

    def _read(self):
        for line in self.program.stdout:
            self.lines.put((time.monotonic(), json.loads(line)))

    def until(self, wanted, what, alive=lambda: None):
        """The first line that is wanted, with its time."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            alive()
            try:
                at, line = self.lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if wanted(line):
                return at, line
        raise AssertionError(f"waited {PATIENCE} s for {what}")

    def allocate(self, ids):
        self.program.stdin.write(json.dumps({"allocate": RESOURCE, "ids": ids}) + "\n")
        self.program.stdin.flush()
        _, answer = self.until(lambda line: "event" not in line, "the answer to Allocate")
        assert "allocated" in answer, answer
        return answer["allocated"][0]

    def close(self):
        self.program.stdin.close()
        self.program.wait(10)


def run(found, results):
    """Passes when the GPU is registered, allocated with files that exist, shown, and the daemon stops cleanly."""
    root, usual = machine.driver_root(found)
    findings = Findings()
    if not usual:
        findings.say(f"driver.root had to be set to {root}: the driver's files are not in the usual folders")
    with tempfile.TemporaryDirectory(prefix="gpushared-gpu.") as folder:
        os.mkdir(os.path.join(folder, "plugins"))
        config = os.path.join(folder, "config.yaml")
        library = f"library: {machine.NVML}" if machine.NODE else "# library: by soname"
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=folder, library=library, root=root, sysroot=machine.NODE or "/"))
        kubelet = Kubelet(os.path.join(folder, "plugins"))
        with open(results.path("daemon.log"), "w", encoding="utf-8") as log:
            started = time.monotonic()
            daemon = subprocess.Popen([machine.program("gpushared"), "run", "--config", config],
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            watched(daemon, started, kubelet, folder, found, findings, results)
        finally:
            daemon.kill()
            daemon.wait()
            kubelet.close()
    return findings


def watched(daemon, started, kubelet, folder, found, findings, results):
    """What is seen of the running daemon, from its start to its end."""
    def alive():
        assert daemon.poll() is None, f"the daemon ended with {daemon.poll()}; see daemon.log"

    registered, _ = kubelet.until(lambda it: it.get("event") == "registered" and it["resource"] == RESOURCE,
                                  f"the registration of {RESOURCE}", alive)
    listed, devices = kubelet.until(lambda it: it.get("event") == "devices" and it["resource"] == RESOURCE
                                    and it["devices"], "the list of GPUs", alive)
    report = {"start to registered, ms": round((registered - started) * 1000, 1),
              "start to listed, ms": round((listed - started) * 1000, 1), "devices": devices["devices"]}
    asked = time.monotonic()
    answer = kubelet.allocate([devices["devices"][0]["id"]])
    report["Allocate, ms"] = round((time.monotonic() - asked) * 1000, 1)
    report["answer"] = answer
    socket = os.path.join(folder, "run/admin.sock")
    done = subprocess.run([machine.program("gpusharectl"), "--socket", socket, "status", "-o", "json"],
                          capture_output=True, text=True, timeout=30)
    time.sleep(SETTLE)
    report.update(memory(daemon.pid))
    stopping = time.monotonic()
    daemon.terminate()
    code = daemon.wait(30)
    report["SIGTERM to end, ms"] = round((time.monotonic() - stopping) * 1000, 1)
    report["exit code"] = code
    results.write("daemon.json", report)
    figures = ", ".join(f"{key} {value}" for key, value in report.items() if isinstance(value, (int, float)))
    findings.say(figures)
    healthy = [it["id"] for it in devices["devices"] if it["health"] == "Healthy"]
    findings.say(f"listed: {len(devices['devices'])}, healthy: {len(healthy)}; NUMA nodes "
                 f"{[it['numa'] for it in devices['devices']]}")
    nodes = [it["host"] for it in answer["devices"]]
    findings.say(f"a container gets {', '.join(nodes)} and {len(answer['mounts'])} driver files")
    assert done.returncode == 0, f"gpusharectl status: {done.stderr}"
    results.write("status.json", json.loads(done.stdout))
    whole = sum(mode != "on" for mode in found["mig"])
    assert len(healthy) == whole, f"{len(healthy)} healthy GPUs instead of {whole}"
    missing = [path for path in nodes + [it["host"] for it in answer["mounts"]] if not os.path.exists(path)]
    assert not missing, f"Allocate answers with what does not exist: {missing}"
    # Of a simulated node the container sees other paths than those of the node's folder.
    inside = [it["container"] for it in answer["devices"]]
    assert any(path.startswith("/dev/nvidia") and path[-1].isdigit() for path in inside), inside
    assert "/dev/nvidiactl" in inside, inside
    mounted = [os.path.basename(it["container"]) for it in answer["mounts"]]
    assert any(name.startswith("libcuda.so") for name in mounted), mounted
    assert code == 0, f"exit code {code} after SIGTERM"


def memory(pid):
    """Resident memory of a process, in KiB."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        words = dict(line.split(":", 1) for line in status if ":" in line)
    return {f"{name}, KiB": int(words[name].split()[0]) for name in ("VmRSS", "RssAnon") if name in words}
