"""The machine under test: its NVML library, its GPUs and the programs of this repository.

As a program it loads NVML in a process of its own and prints what is there as JSON; with `--present` it says nothing
where there is a GPU. Exit code 3 says that there is none; a driver that is there and does not start is an error.
"""

import ctypes
import json
import os
import subprocess
import sys

import abi

HERE = os.path.dirname(os.path.abspath(__file__))
# A simulated node that stands for the machine, to try the cases where there is no GPU.
NODE = os.environ.get("GPU_NODE", "")
NVML = os.path.join(NODE, "lib/libnvidia-ml.so.1") if NODE else "libnvidia-ml.so.1"
CUDA = os.path.join(NODE, "lib/libcuda.so.1") if NODE else "libcuda.so.1"
# Where the daemon looks for the driver's libraries, below its driver root.
LIBRARY_FOLDERS = ["usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib64",
                   "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib", "lib"]


NO_GPU = 3


class NoGpu(Exception):
    """Why there is no GPU."""


def look():
    """What NVML tells of this machine."""
    try:
        library = ctypes.CDLL(NVML)
    except OSError as error:
        raise NoGpu(str(error)) from None
    code = library.nvmlInit_v2()
    if abi.CODES.get(code) == "DRIVER_NOT_LOADED":
        raise NoGpu("the driver is not loaded")
    if code:
        sys.exit(f"tests/gpu: nvmlInit_v2: {abi.CODES.get(code, code)}")
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if not count.value:
        raise NoGpu("the driver is loaded and has no GPU")
    names, modes = [], []
    for index in range(count.value):
        device = ctypes.c_void_p()
        library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        name, current, pending = ctypes.create_string_buffer(96), ctypes.c_uint(), ctypes.c_uint()
        library.nvmlDeviceGetName(device, name, 96)
        names.append(name.value.decode())
        code = library.nvmlDeviceGetMigMode(device, ctypes.byref(current), ctypes.byref(pending))
        modes.append(["off", "on"][current.value & 1] if code == 0 else abi.CODES.get(code, str(code)))
    driver, cuda = ctypes.create_string_buffer(80), ctypes.c_int()
    library.nvmlSystemGetDriverVersion(driver, 80)
    library.nvmlSystemGetCudaDriverVersion(ctypes.byref(cuda))
    loaded = os.path.realpath(mapped("libnvidia-ml.so"))
    library.nvmlShutdown()
    return {"driver": driver.value.decode(), "cuda": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
            "gpus": names, "mig": modes, "library": loaded, "kernel": os.uname().release,
            "simulated": hasattr(library, "gpusim_is_simulated")}


def mapped(name):
    """The file of that name which is loaded here."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        found = [line.split(None, 5)[5].strip() for line in maps if name in line]
    return found[0] if found else NVML


def seen():
    """The same, seen by another process: this one stays without a driver."""
    done = subprocess.run([sys.executable, "-B", __file__], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout
    return json.loads(done.stdout)


def program(name):
    """A program or library of this repository."""
    folder = os.environ["GPU_TEST_BIN"]
    for place in (folder, os.path.join(folder, "release"), os.path.join(folder, "sim")):
        path = os.path.join(place, name)
        if os.path.exists(path):
            return os.path.abspath(path)
    raise AssertionError(f"no {name} in {folder}; see tests/gpu/pack")


def driver_root(machine):
    """The driver root below which the daemon finds the libraries, and whether that is the default."""
    if NODE:
        return NODE, True
    # libcuda lies beside libnvidia-ml in every installation.
    folder = os.path.dirname(machine["library"])
    name = "libcuda.so." + machine["driver"]
    for root in ["/", *parents(folder)]:
        if any(os.path.exists(os.path.join(root, it, name)) for it in LIBRARY_FOLDERS):
            return root, root == "/"
    return "/", True


def parents(folder):
    """The folders above this one, the nearest first, without `/`."""
    while folder not in ("/", ""):
        folder = os.path.dirname(folder)
        if folder != "/":
            yield folder


def main():
    try:
        found = look()
    except NoGpu as why:
        print(f"skipped: no NVIDIA GPU ({why})")
        return NO_GPU
    if "--present" not in sys.argv:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
