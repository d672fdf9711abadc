"""What a driver is asked about MIG, whatever the mode is: nothing is switched, made or destroyed."""

import abi
from abi import NULL, Buffer, Handle, Versioned, count, number, u32
from queries import device

# Profile enums of the NVML 13 header, and one more.
ENUMS = range(0x13)
# Profile ids: the driver's numbers, not the enums. All that are known lie here, and some that are none.
IDS = [*range(26), 32, 35, 46, 47, 64, 65, 66, 67, 255]
PLACED = [0, 5, 9, 14, 15, 19, 20, 21, 255]
ROOM = 16


def everything():
    """All of them."""
    yield device("MigMode", number(), number())
    yield device("MaxMigDeviceCount", number())
    for index in (0, 7, 99):
        yield device("MigDeviceHandleByIndex", u32(index), Handle(), note=f"index {index}")
    yield device("DeviceHandleFromMigDeviceHandle", Handle(), note="of a GPU")
    for profile in ENUMS:
        note = f"enum {profile}"
        yield device("GpuInstanceProfileInfo", u32(profile), Buffer(abi.GiProfileV1), note=note)
        for version, kind in ((2, abi.GiProfileV2), (3, abi.GiProfileV3)):
            yield device("GpuInstanceProfileInfoV", u32(profile), Versioned(kind, version), note=f"{note}, v{version}")
    for profile in IDS:
        for version, kind in ((2, abi.GiProfileV2), (3, abi.GiProfileV3)):
            yield device("GpuInstanceProfileInfoByIdV", u32(profile), Versioned(kind, version),
                         note=f"id {profile}, v{version}")
        yield device("GpuInstanceRemainingCapacity", u32(profile), number(), note=f"id {profile}")
    for profile in PLACED:
        for version in ("", "_v2"):
            what = "GpuInstancePossiblePlacements" + version
            yield device(what, u32(profile), NULL, count(0), note=f"id {profile}, count only")
            yield device(what, u32(profile), Buffer(abi.Placement, ROOM), count(ROOM), note=f"id {profile}")
            yield device(what, u32(profile), Buffer(abi.Placement, 1), count(1), note=f"id {profile}, room for 1")
        yield device("GpuInstances", u32(profile), Buffer(abi.ctypes.c_void_p, ROOM, vary=True), count(ROOM),
                     note=f"id {profile}")
    for instance in (0, 1, 99):
        yield device("GpuInstanceById", u32(instance), Handle(), note=f"instance {instance}")
