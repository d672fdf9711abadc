"""Process lists: each version of the call has the layout that it was born with."""

import ctypes
import signal

import pynvml as nv
from tools import client, equal, gpusim

MIB = 1 << 20
NONE = 0xFFFFFFFF  # no instance: the process runs on the whole GPU


class ProcessV1(ctypes.Structure):
    """16 bytes: process id and memory, no instance ids."""

    _fields_ = [("pid", ctypes.c_uint), ("memory", ctypes.c_ulonglong)]


class ProcessV2(ctypes.Structure):
    """24 bytes."""

    _fields_ = [*ProcessV1._fields_, ("gi", ctypes.c_uint), ("ci", ctypes.c_uint)]


def listed(name, layout, device):
    """The list that a function of NVML writes, and nothing behind it."""
    function = nv._nvmlGetFunctionPointer(name)
    array, count = (layout * 8)(), ctypes.c_uint(8)
    ctypes.memset(array, 0xAA, ctypes.sizeof(array))
    nv._nvmlCheckReturn(function(device, ctypes.byref(count), array))
    rest = bytes(array)[count.value * ctypes.sizeof(layout):]
    equal(rest.strip(b"\xaa"), b"", f"{name} wrote beyond its {count.value} entries")
    return [(it.pid, it.memory) for it in array[: count.value]]


nv.nvmlInit()
device = nv.nvmlDeviceGetHandleByIndex(0)
equal(nv.nvmlDeviceGetComputeRunningProcesses(device), [], "processes at rest")
free = nv.nvmlDeviceGetMemoryInfo(device).free
compute, graphics = client("--memory", "512MiB"), client("--memory", "64MiB", "--kind", "graphics")
for version, layout in (("", ProcessV1), ("_v2", ProcessV2), ("_v3", ProcessV2)):
    got = listed("nvmlDeviceGetComputeRunningProcesses" + version, layout, device)
    equal([it[0] for it in got], [compute.pid], "compute processes" + version)
    assert got[0][1] >= 512 * MIB, f"memory of the process: {got[0][1]}"
    got = listed("nvmlDeviceGetGraphicsRunningProcesses" + version, layout, device)
    equal([it[0] for it in got], [graphics.pid], "graphics processes" + version)
(it,) = nv.nvmlDeviceGetComputeRunningProcesses(device)
equal((it.pid, it.gpuInstanceId, it.computeInstanceId), (compute.pid, NONE, NONE), "the bindings' list")
assert free - nv.nvmlDeviceGetMemoryInfo(device).free >= 576 * MIB, "the clients' memory is still free"
name = nv.nvmlSystemGetProcessName(compute.pid)
assert "sleep" in name or "sh" in name, name
# A killed client is gone from the list without a word of goodbye.
compute.send_signal(signal.SIGKILL)
compute.wait()
equal(nv.nvmlDeviceGetComputeRunningProcesses(device), [], "processes after the kill")
graphics.kill()
graphics.wait()
equal(nv.nvmlDeviceGetMemoryInfo(device).free, free, "free memory afterwards")

gpusim("mig", "enable", "--gpu", "0")
gpusim("mig", "create", "--gpu", "0", "--profile", "3g.40gb", "--count", "2")
mig = nv.nvmlDeviceGetMigDeviceHandleByIndex(device, 1)
ids = nv.nvmlDeviceGetGpuInstanceId(mig), nv.nvmlDeviceGetComputeInstanceId(mig)
tenant = client("--gi", str(ids[0]), "--ci", str(ids[1]), "--memory", "1GiB")
(it,) = nv.nvmlDeviceGetComputeRunningProcesses(device)
equal((it.pid, it.gpuInstanceId, it.computeInstanceId), (tenant.pid, *ids), "process of a MIG device")
assert nv.nvmlDeviceGetMemoryInfo(mig).used >= 1024 * MIB, "memory of the MIG device"
tenant.kill()
tenant.wait()
nv.nvmlShutdown()
