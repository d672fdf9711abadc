"""What the bindings tell of whole GPUs: a node with two H100-80GB, an A100-40GB and a T4."""

import inspect
import re
import uuid

import pynvml as nv
from tools import equal, every_query_answers, gpus, refused

MIB = 1 << 20
# name, memory in MiB, compute capability, architecture, PCI device and vendor
H100 = ("NVIDIA H100 80GB HBM3", 81559, (9, 0), nv.NVML_DEVICE_ARCH_HOPPER, 0x233010DE)
A100 = ("NVIDIA A100-SXM4-40GB", 40960, (8, 0), nv.NVML_DEVICE_ARCH_AMPERE, 0x20B010DE)
T4 = ("Tesla T4", 15360, (7, 5), nv.NVML_DEVICE_ARCH_TURING, 0x1EB810DE)
EXPECTED = [H100, H100, A100, T4]
# What no driver library exports: helpers of the bindings, and names of other systems' libraries.
NOT_OF_THE_DRIVER = {"nvmlErrorString"}


def every_name_is_exported():
    names = set(re.findall(r'_nvmlGetFunctionPointer\("(nvml\w+)"\)', inspect.getsource(nv)))
    assert len(names) > 300, f"only {len(names)} names found in the bindings"
    missing = []
    for name in sorted(names - NOT_OF_THE_DRIVER):
        try:
            nv._nvmlGetFunctionPointer(name)
        except nv.NVMLError:
            missing.append(name)
    equal(missing, [], "functions of the bindings that the library does not export")


def identity(index, handle, expected):
    name, memory, capability, architecture, pci_id = expected
    equal(nv.nvmlDeviceGetName(handle), name, "name")
    equal(nv.nvmlDeviceGetIndex(handle), index, "index")
    equal(nv.nvmlDeviceGetMinorNumber(handle), index, "minor number")
    equal(nv.nvmlDeviceGetCudaComputeCapability(handle), capability, "compute capability")
    equal(nv.nvmlDeviceGetArchitecture(handle), architecture, "architecture")
    text = nv.nvmlDeviceGetUUID(handle)
    equal(text, "GPU-" + str(uuid.UUID(text.removeprefix("GPU-"))), "form of the uuid")
    same = nv.nvmlDeviceGetHandleByUUID(text)
    equal(nv.nvmlDeviceGetIndex(same), index, "handle by uuid")
    pci = nv.nvmlDeviceGetPciInfo(handle)
    equal(pci.pciDeviceId, pci_id, "PCI id")
    assert re.fullmatch(r"[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.0", pci.busId), pci.busId
    assert re.fullmatch(r"[0-9A-F]{4}:[0-9A-F]{2}:[0-9A-F]{2}\.0", pci.busIdLegacy), pci.busIdLegacy
    for bus in (pci.busId, pci.busIdLegacy, pci.busIdLegacy.lower()):
        equal(nv.nvmlDeviceGetIndex(nv.nvmlDeviceGetHandleByPciBusId(bus)), index, f"handle by {bus}")
    for attribute, path in (("vendor", "0x10de"), ("device", f"0x{pci_id >> 16:04x}")):
        with open(f"/sys/bus/pci/devices/{pci.busIdLegacy.lower()}/{attribute}") as file:
            equal(file.read().strip(), path, f"sysfs {attribute}")
    # Memory: the first version counts what the driver reserves as used, the second shows it.
    v1 = nv.nvmlDeviceGetMemoryInfo(handle)
    v2 = nv.nvmlDeviceGetMemoryInfo(handle, version=nv.nvmlMemory_v2)
    equal((v1.total, v2.total), (memory * MIB, memory * MIB), "total memory")
    equal(v1.used + v1.free, v1.total, "memory, first version")
    equal(v2.used + v2.free + v2.reserved, v2.total, "memory, second version")
    equal(v1.used, v2.used + v2.reserved, "used memory of both versions")
    refused(nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, nv.nvmlDeviceGetMemoryInfo, handle, 0x7000028)


def mig(handle, has_mig):
    if has_mig:
        equal(nv.nvmlDeviceGetMigMode(handle), [0, 0], "MIG mode")
        equal(nv.nvmlDeviceGetMaxMigDeviceCount(handle), 0, "most MIG devices with the mode off")
        refused(nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetMigDeviceHandleByIndex, handle, 0)
    else:
        refused(nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetMigMode, handle)
    equal(nv.nvmlDeviceIsMigDeviceHandle(handle).value, 0, "is a MIG device")


refused(nv.NVML_ERROR_UNINITIALIZED, nv.nvmlDeviceGetCount)
nv.nvmlInit()
every_name_is_exported()
driver = nv.nvmlSystemGetDriverVersion()
assert re.fullmatch(r"\d{3}\.\d+(\.\d+)?", driver), driver
assert nv.nvmlSystemGetNVMLVersion().endswith(driver), nv.nvmlSystemGetNVMLVersion()
assert nv.nvmlSystemGetCudaDriverVersion() >= 11000
with open("/proc/driver/nvidia/version") as file:
    assert driver in file.read(), "/proc/driver/nvidia/version names another driver"
equal(nv.nvmlDeviceGetCount(), len(EXPECTED), "GPUs")
handles = gpus()
uuids = [nv.nvmlDeviceGetUUID(handle) for handle in handles]
equal(len(set(uuids)), len(EXPECTED), "different uuids")
for index, (handle, expected) in enumerate(zip(handles, EXPECTED)):
    identity(index, handle, expected)
    mig(handle, expected is not T4)
    every_query_answers(handle, 40)
refused(nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetHandleByIndex, len(EXPECTED))
refused(nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetHandleByUUID, "GPU-00000000-0000-0000-0000-000000000000")
# Start and end are counted: the library is there until the last end.
nv.nvmlInit()
nv.nvmlShutdown()
equal(nv.nvmlDeviceGetCount(), len(EXPECTED), "GPUs after one of two ends")
nv.nvmlShutdown()
refused(nv.NVML_ERROR_UNINITIALIZED, nv.nvmlDeviceGetCount)
