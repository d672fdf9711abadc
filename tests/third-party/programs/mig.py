"""MIG through the bindings: mode, profiles, placements, instances, MIG devices; a second process sees the same."""

import ctypes
import json
import os
import stat
import subprocess
import sys

import pynvml as nv
from tools import equal, every_query_answers, refused

ONE, THREE, SEVEN = 19, 9, 0  # profile ids of 1g.10gb, 3g.40gb, 7g.80gb on an H100-80GB


def placements(device, profile):
    count = ctypes.c_uint()
    nv.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile, None, ctypes.byref(count))
    array = (nv.c_nvmlGpuInstancePlacement_t * count.value)()
    nv.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile, array, ctypes.byref(count))
    return sorted((it.start, it.size) for it in array[: count.value])


def instances(device, profile):
    array, count = (nv.c_nvmlGpuInstance_t * 8)(), ctypes.c_uint()
    nv.nvmlDeviceGetGpuInstances(device, profile, array, ctypes.byref(count))
    return list(array[: count.value])


def compute_instances(gi, profile):
    array, count = (nv.c_nvmlComputeInstance_t * 8)(), ctypes.c_uint()
    nv.nvmlGpuInstanceGetComputeInstances(gi, profile, array, ctypes.byref(count))
    return list(array[: count.value])


def place(gi):
    info = nv.nvmlGpuInstanceGetInfo(gi)
    return info.placement.start, info.placement.size


def remaining(device, profile):
    count = ctypes.c_uint()
    function = nv._nvmlGetFunctionPointer("nvmlDeviceGetGpuInstanceRemainingCapacity")
    nv._nvmlCheckReturn(function(device, profile, ctypes.byref(count)))
    return count.value


def create_at(device, profile, start, size):
    where = nv.c_nvmlGpuInstancePlacement_t(start, size)
    return nv.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, ctypes.byref(where))


def mig_devices(device):
    """Per MIG device what a program reads of it."""
    seen = []
    for index in range(nv.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            mig = nv.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
        except nv.NVMLError_NotFound:
            continue
        equal(nv.nvmlDeviceIsMigDeviceHandle(mig).value, 1, "is a MIG device")
        parent = nv.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        equal(nv.nvmlDeviceGetUUID(parent), nv.nvmlDeviceGetUUID(device), "parent")
        attributes = nv.nvmlDeviceGetAttributes(mig)
        seen.append({
            "uuid": nv.nvmlDeviceGetUUID(mig),
            "name": nv.nvmlDeviceGetName(mig),
            "gi": nv.nvmlDeviceGetGpuInstanceId(mig),
            "ci": nv.nvmlDeviceGetComputeInstanceId(mig),
            "memory": nv.nvmlDeviceGetMemoryInfo(mig).total,
            "memory_mib": attributes.memorySizeMB,
            "slices": [attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount],
            "sm": attributes.multiprocessorCount,
        })
    return seen


def capability(path):
    """The device file of a capability, by way of /proc."""
    with open(path) as file:
        fields = dict(line.split(": ") for line in file.read().splitlines())
    return os.stat(f"/dev/nvidia-caps/nvidia-cap{fields['DeviceFileMinor'].strip()}")


def files_follow(devices):
    with open("/proc/driver/nvidia-caps/mig-minors") as file:
        minors = dict(line.rsplit(" ", 1) for line in file.read().splitlines())
    for it in devices:
        for name in (f"gpu0/gi{it['gi']}", f"gpu0/gi{it['gi']}/ci{it['ci']}"):
            path = name.replace("gpu0/", "gpu0/mig/")
            node = capability(f"/proc/driver/nvidia/capabilities/{path}/access")
            assert stat.S_ISCHR(node.st_mode), f"the node of {name} is no device file"
            equal(os.minor(node.st_rdev), int(minors[name + "/access"]), f"minor number of {name}")


def second_process():
    here = os.path.abspath(__file__)
    done = subprocess.run([sys.executable, "-B", here, "look"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main():
    device = nv.nvmlDeviceGetHandleByIndex(0)
    refused(nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceCreateGpuInstance, device, ONE)
    equal(nv.nvmlDeviceSetMigMode(device, nv.NVML_DEVICE_MIG_ENABLE), nv.NVML_SUCCESS, "activation")
    equal(nv.nvmlDeviceGetMigMode(device), [1, 1], "MIG mode")
    # Profiles: the enum asks for one, its id is for everything else.
    info = nv.nvmlDeviceGetGpuInstanceProfileInfo(device, nv.NVML_GPU_INSTANCE_PROFILE_1_SLICE)
    equal((info.id, info.sliceCount, info.instanceCount), (ONE, 1, 7), "profile 1g.10gb")
    equal(info.name, "MIG 1g.10gb", "name of the profile")
    equal(placements(device, ONE), [(start, 1) for start in range(7)], "placements of 1g.10gb")
    equal(placements(device, THREE), [(0, 4), (4, 4)], "placements of 3g.40gb")
    equal(placements(device, SEVEN), [(0, 8)], "placement of 7g.80gb")
    # Instances, placed.
    gi = create_at(device, ONE, 3, 1)
    equal(place(gi), (3, 1), "placement of the instance")
    refused(nv.NVML_ERROR_INSUFFICIENT_RESOURCES, create_at, device, ONE, 3, 1)
    refused(nv.NVML_ERROR_INSUFFICIENT_RESOURCES, nv.nvmlDeviceCreateGpuInstance, device, SEVEN)
    try:
        create_at(device, 77, 0, 1)
        raise AssertionError("an instance of a profile that does not exist was created")
    except nv.NVMLError as error:
        assert error.value in (nv.NVML_ERROR_INVALID_ARGUMENT, nv.NVML_ERROR_NOT_SUPPORTED), error
    equal(remaining(device, ONE), 6, "room for 1g.10gb")
    equal(mig_devices(device), [], "MIG devices without a compute instance")
    ci = nv.nvmlGpuInstanceCreateComputeInstance(gi, nv.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    big = create_at(device, THREE, 4, 4)
    nv.nvmlGpuInstanceCreateComputeInstance(big, nv.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE)
    seen = mig_devices(device)
    equal(sorted(it["name"] for it in seen),
          ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H100 80GB HBM3 MIG 3g.40gb"], "names of the MIG devices")
    for it in seen:
        mib = it["memory"] >> 20
        assert abs(mib - it["memory_mib"]) <= it["memory_mib"] // 20, f"memory of {it}"
        equal(it["slices"][0], 1 if "1g" in it["name"] else 3, f"slices of {it}")
        by_uuid = nv.nvmlDeviceGetHandleByUUID(it["uuid"])
        equal(nv.nvmlDeviceGetGpuInstanceId(by_uuid), it["gi"], "handle by uuid")
    equal(nv.nvmlComputeInstanceGetInfo(ci).id, next(it["ci"] for it in seen if "1g" in it["name"]), "id")
    for it in seen:
        every_query_answers(nv.nvmlDeviceGetHandleByUUID(it["uuid"]), 5)
    files_follow(seen)
    equal(second_process(), seen, "what a second process sees")
    # From the GPU instance down only, and the place gives the uuid.
    refused(nv.NVML_ERROR_IN_USE, nv.nvmlGpuInstanceDestroy, gi)
    uuid = next(it["uuid"] for it in seen if "1g" in it["name"])
    nv.nvmlComputeInstanceDestroy(ci)
    nv.nvmlGpuInstanceDestroy(gi)
    refused(nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetHandleByUUID, uuid)
    gi = create_at(device, ONE, 3, 1)
    ci = nv.nvmlGpuInstanceCreateComputeInstance(gi, nv.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    assert uuid in [it["uuid"] for it in second_process()], "the same place has another uuid"
    refused(nv.NVML_ERROR_IN_USE, nv.nvmlDeviceSetMigMode, device, nv.NVML_DEVICE_MIG_DISABLE)
    for profile in (ONE, THREE):
        for gi in instances(device, profile):
            ci_profile = 0 if profile == ONE else 2  # ids of 1c and of 3c, which is the whole of 3g
            for ci in compute_instances(gi, ci_profile):
                nv.nvmlComputeInstanceDestroy(ci)
            nv.nvmlGpuInstanceDestroy(gi)
    equal(second_process(), [], "MIG devices after the last was destroyed")
    equal(nv.nvmlDeviceSetMigMode(device, nv.NVML_DEVICE_MIG_DISABLE), nv.NVML_SUCCESS, "activation")
    equal(nv.nvmlDeviceGetMigMode(device), [0, 0], "MIG mode")


nv.nvmlInit()
if sys.argv[1:] == ["look"]:
    print(json.dumps(mig_devices(nv.nvmlDeviceGetHandleByIndex(0))))
else:
    main()
nv.nvmlShutdown()
