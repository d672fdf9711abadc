"""The cases' tools: simulated nodes, programs that run on them, and a kubelet.

A case is a function under `@case(name)`; it fails by raising. Nodes, programs and kubelets that it makes are closed
after it, in reverse order.
"""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
GPUSIM = os.environ["THIRD_PARTY_GPUSIM"]
KUBELET = os.environ["THIRD_PARTY_KUBELET"]
GPUSHARED = os.environ["THIRD_PARTY_GPUSHARED"]
COMPONENTS = os.environ["THIRD_PARTY_COMPONENTS"]
VENV = os.environ["THIRD_PARTY_VENV"]
DEVICE_PLUGIN = os.path.join(COMPONENTS, "nvidia-device-plugin")
MIG_PARTED = os.path.join(COMPONENTS, "nvidia-mig-parted")
PATIENCE = 20

CASES = []
_open = []


class Skipped(Exception):
    """The case cannot run here."""


def case(name):
    """Adds a case under this name."""

    def add(body):
        CASES.append((name, body))
        return body

    return add


def close_all():
    """Ends what the case left."""
    while _open:
        _open.pop().close()


def equal(got, wanted, what):
    """Fails unless the two are the same."""
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"


def wait_until(what, look, limit=PATIENCE):
    """Waits until `look` answers something true, and answers that."""
    deadline = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {limit} s for {what}"
        time.sleep(0.02)


class Node:
    """A simulated node in a temporary folder."""

    def __init__(self, gpus, **options):
        self.dir = tempfile.mkdtemp(prefix="gpushared-3p.")
        _open.append(self)
        self.sim("init", gpu=gpus, **options)
        with open(os.path.join(HERE, "nvidia-smi")) as text:
            self.write("bin/nvidia-smi", text.read(), 0o755)

    def sim(self, *verb, **options):
        """Runs `gpusim VERB DIR --option value …` and answers its output."""
        words = [GPUSIM, *verb, self.dir]
        for name, value in options.items():
            words.append("--" + name.replace("_", "-"))
            if value is not True:
                words.append(str(value))
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, f"gpusim {' '.join(words[1:])}: {done.stderr.strip()}"
        return done.stdout

    def show(self):
        """The node as `gpusim show` describes it."""
        return json.loads(self.sim("show", output="json"))

    def calls(self):
        """How often each driver function was called: name → (calls, errors)."""
        functions = json.loads(self.sim("calls", output="json"))["functions"]
        return {it["name"]: (it["calls"], it["errors"]) for it in functions}

    def forget_calls(self):
        self.sim("calls", clear=True)

    def cut(self, gpu, profile="1g.10gb", count=7):
        """MIG mode on, and these instances."""
        self.sim("mig", "enable", gpu=gpu)
        self.sim("mig", "create", gpu=gpu, profile=profile, count=count)

    def layout(self):
        """Per GPU the (profile, start) of its instances."""
        return [sorted((gi["name"], gi["start"]) for gi in gpu["gis"]) for gpu in self.show()["gpus"]]

    def write(self, name, text, mode=0o644):
        """Makes a file below the node and answers its path."""
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def read(self, name):
        with open(os.path.join(self.dir, name)) as file:
            return file.read()

    def command(self, words):
        return [os.path.join(HERE, "namespace"), self.dir, *words]

    def environment(self, extra):
        path = os.path.join(self.dir, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": self.dir, "TERM": "xterm", "LANG": "C.UTF-8", "NODE": self.dir,
                "GPUSIM": GPUSIM, **extra}

    def run(self, *words, rc=0, env=None, limit=120):
        """Runs a program on the node to its end; its exit code must be `rc`."""
        done = subprocess.run(self.command(words), env=self.environment(env or {}), text=True,
                              capture_output=True, timeout=limit, stdin=subprocess.DEVNULL)
        tail = (done.stdout + done.stderr)[-2000:].strip()
        name = " ".join(os.path.basename(word) for word in words[:3])
        assert done.returncode == rc, f"{name}: exit code {done.returncode} instead of {rc}:\n{tail}"
        return done

    def python(self, program, *arguments, **options):
        """Runs a script of `programs` under the Python that has the wheels."""
        script = os.path.join(HERE, "programs", program)
        return self.run(os.path.join(VENV, "bin", "python"), "-B", script, *arguments, **options)

    def start(self, *words, env=None):
        """Starts a program on the node."""
        return Program(self, words, env or {})

    def kubelet(self):
        """Starts a kubelet on the node."""
        return Kubelet(self)

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Program:
    """A running program; its output goes to a file."""

    def __init__(self, node, words, env):
        self.log = os.path.join(node.dir, os.path.basename(words[0]) + ".log")
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(node.command(words), env=node.environment(env), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        _open.append(self)

    def output(self):
        with open(self.log) as log:
            return log.read()

    def ended(self):
        """The exit code, or None while it runs."""
        return self.process.poll()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Kubelet:
    """The kubelet stand-in, and what it has seen."""

    def __init__(self, node):
        directory = os.path.join(node.dir, "kubelet", "device-plugins")
        self.process = subprocess.Popen([KUBELET, directory], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        _open.append(self)
        self.events, self.answers = [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        wait_until("the kubelet", lambda: any(it["event"] == "serving" for it in self.events))

    def _read(self):
        for line in self.process.stdout:
            value = json.loads(line)
            if "event" in value:
                self.events.append(value)
            else:
                self.answers.put(value)

    def _call(self, call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return self.answers.get(timeout=PATIENCE)

    def devices(self, resource):
        """The newest list of a resource: ID → device. None without a list."""
        lists = [it for it in self.events if it["event"] == "devices" and it["resource"] == resource]
        return {it["id"]: it for it in lists[-1]["devices"]} if lists else None

    def health(self, resource):
        """ID → health."""
        return {id: it["health"] for id, it in (self.devices(resource) or {}).items()}

    def resources(self):
        """Every resource that is registered, with its newest list."""
        names = {it["resource"] for it in self.events if it["event"] == "registered"}
        return {name: self.devices(name) for name in names}

    def until_listed(self, resource, count):
        """Waits until a resource has this many devices."""
        return wait_until(f"{count} devices of {resource}",
                          lambda: (it := self.devices(resource)) is not None and len(it) == count and it)

    def allocate(self, resource, ids):
        """Allocates for one container; answers the container's part."""
        answer = self._call({"allocate": resource, "ids": list(ids)})
        assert "allocated" in answer, f"Allocate: {answer}"
        return answer["allocated"][0]

    def prefer(self, resource, available, size, required=()):
        answer = self._call({"prefer": resource, "available": list(available), "required": list(required),
                             "size": size})
        assert "preferred" in answer, f"GetPreferredAllocation: {answer}"
        return answer["preferred"][0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
