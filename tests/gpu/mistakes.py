"""Questions asked wrongly: before the start, after the end, with null pointers, bad numbers and bad versions.

A driver may die of one of these; ask.py tells which, and the one who runs it goes on behind it.
"""

import abi
from abi import DEVICE, NULL, Buffer, Handle, Saved, Text, Versioned, count, number, number64, text, u32, u64
from queries import ask, device

# Functions with one place for the answer, which is withheld here.
ONE_ANSWER = """Index MinorNumber Brand Architecture PciInfo PciInfo_v3 MemoryInfo MemoryInfo_v2 BAR1MemoryInfo
    UtilizationRates PowerUsage PersistenceMode ComputeMode MaxMigDeviceCount SupportedEventTypes Attributes_v2
    GpuInstanceId RowRemapperHistogram TotalEnergyConsumption PerformanceState GpuFabricInfo GpuFabricInfoV
    TemperatureV""".split()
# Functions whose argument has a version word.
VERSIONED = [("MemoryInfo_v2", abi.MemoryV2, 2), ("PciInfoExt", abi.PciInfoExt, 1),
             ("TemperatureV", abi.TemperatureV, 1), ("MarginTemperature", abi.MarginTemperature, 1),
             ("AddressingMode", abi.VersionedNumber, 1), ("GpuFabricInfoV", abi.FabricInfoV3, 3),
             ("RunningProcessDetailList", abi.ProcessDetailList, 1),
             ("ProcessesUtilizationInfo", abi.ProcessesUtilization, 1)]
UUIDS = ["GPU-00000000-0000-0000-0000-000000000000", "MIG-00000000-0000-0000-0000-000000000000", "GPU-", "", "x"]
BUSES = ["0000:ff:1f.0", "00000000:FF:1F.0", "0000:ff:1f", "", "x"]


def before_init():
    """Before nvmlInit."""
    yield ask("nvmlSystemGetDriverVersion", Text(80), u32(80), note="before init")
    yield ask("nvmlSystemGetNVMLVersion", Text(80), u32(80), note="before init")
    yield ask("nvmlSystemGetCudaDriverVersion", number(), note="before init")
    yield ask("nvmlDeviceGetCount_v2", number(), note="before init")
    yield ask("nvmlDeviceGetCount_v2", NULL, note="before init, null")
    yield ask("nvmlDeviceGetHandleByIndex_v2", u32(0), Handle(), note="before init")
    yield ask("nvmlDeviceGetName", NULL, Text(96), u32(96), note="before init")
    yield ask("nvmlEventSetCreate", Handle(), note="before init")
    yield ask("nvmlErrorString", u32(9), note="before init")
    yield ask("nvmlShutdown", note="before init")


def after_shutdown():
    """After nvmlShutdown, with the handle of before."""
    yield ask("nvmlDeviceGetCount_v2", number(), note="after shutdown")
    yield device("Name", Text(96), u32(96), note="after shutdown")
    yield device("MemoryInfo", Buffer(abi.Memory), note="after shutdown")
    yield ask("nvmlShutdown", note="a second time")
    for flags in (0, 1, 2, 0xFFFF):
        yield ask("nvmlInitWithFlags", u32(flags), note=f"flags {flags:#x}")
        yield ask("nvmlDeviceGetCount_v2", number(), note=f"after init with flags {flags:#x}")
        yield ask("nvmlShutdown", note=f"after init with flags {flags:#x}")
    # Start and end are counted.
    yield ask("nvmlInit", note="first of two")
    yield ask("nvmlInit_v2", note="second of two")
    yield ask("nvmlShutdown", note="first of two")
    yield ask("nvmlDeviceGetCount_v2", number(), note="after one of two shutdowns")
    yield ask("nvmlShutdown", note="second of two")
    yield ask("nvmlDeviceGetCount_v2", number(), note="after two of two shutdowns")


def while_running():
    """Between init and shutdown."""
    yield from unknown_devices()
    yield from bad_numbers()
    yield from bad_versions()
    yield from small_buffers()
    yield from null_pointers()


def unknown_devices():
    for index in (64, 0xFFFF_FFFF):
        yield ask("nvmlDeviceGetHandleByIndex_v2", u32(index), Handle(), note=f"index {index}")
    for uuid in UUIDS:
        yield ask("nvmlDeviceGetHandleByUUID", text(uuid.encode()), Handle(), note=f"'{uuid}'")
    for address in BUSES:
        yield ask("nvmlDeviceGetHandleByPciBusId_v2", text(address.encode()), Handle(), note=f"'{address}'")
    yield ask("nvmlDeviceGetHandleBySerial", text(b"no such serial"), Handle(), note="unknown")


def bad_numbers():
    for sensor in (1, 7):
        yield device("Temperature", u32(sensor), number(), note=f"sensor {sensor}")
        yield device("TemperatureV", Versioned(abi.TemperatureV, 1, sensor=sensor), note=f"sensor {sensor}")
    for what in ("ClockInfo", "MaxClockInfo", "ApplicationsClock"):
        yield device(what, u32(9), number(), note="domain 9")
    yield device("Clock", u32(0), u32(9), number(), note="clock 9")
    yield device("TemperatureThreshold", u32(99), number(), note="kind 99")
    yield device("TotalEccErrors", u32(2), u32(0), number64(), note="type 2")
    yield device("TotalEccErrors", u32(0), u32(2), number64(), note="counter 2")
    yield device("MemoryErrorCounter", u32(0), u32(0), u32(99), number64(), note="location 99")
    yield device("RetiredPages", u32(9), count(0), NULL, note="cause 9")
    yield device("ViolationStatus", u32(99), Buffer(abi.ViolationTime), note="policy 99")
    yield device("PcieThroughput", u32(9), number(), note="counter 9")
    yield device("NvLinkState", u32(99), number(), note="link 99")
    yield device("Samples", u32(99), u64(0), number(), number(), NULL, note="kind 99")
    yield device("GpuInstanceProfileInfo", u32(0xFFFF_FFFF), Buffer(abi.GiProfileV1), note="enum 0xffffffff")
    yield device("MigDeviceHandleByIndex", u32(0xFFFF_FFFF), Handle(), note="index 0xffffffff")
    yield device("CpuAffinity", u32(0), Buffer(u64, 1), note="no words")
    yield device("FieldValues", u32(0), Buffer(abi.FieldValue, 1, fill=0), note="none")
    unknown = Buffer(abi.FieldValue, 1, fill=0, vary=("timestamp", "latency_us"))
    unknown.value().field = 9999
    yield device("FieldValues", u32(1), unknown, note="field 9999")


def bad_versions():
    for what, kind, version in VERSIONED:
        size = abi.ctypes.sizeof(kind)
        for note, word in (("0", 0), ("the plain number", version), ("a size too small", size - 4 | version << 24),
                           ("the next version", size | (version + 1) << 24)):
            yield device(what, Buffer(kind, fill=0, version=word), note=f"version word is {note}")
    for version in (0, 1, 2, 3, 4):
        yield device("GpuInstanceProfileInfoV", u32(0), Buffer(abi.GiProfileV3, version=version << 24 | 152),
                     note=f"enum 0, version {version}")
    yield device("GpuInstanceProfileInfoV", u32(0), Buffer(abi.GiProfileV3, version=3 << 24 | 48),
                 note="enum 0, version 3 with the size of version 1")
    yield ask("nvmlGpmQueryDeviceSupport", DEVICE, Buffer(abi.VersionedNumber, version=2), note="version 2")


def small_buffers():
    for what, lengths in (("Name", (0, 1, 5)), ("UUID", (0, 1, 40)), ("Serial", (1,)), ("VbiosVersion", (1,)),
                          ("BoardPartNumber", (1,))):
        for length in lengths:
            yield device(what, Text(max(length, 1), vary=True), u32(length), note=f"room for {length}")
    for length in (0, 4):
        yield ask("nvmlSystemGetDriverVersion", Text(max(length, 1)), u32(length), note=f"room for {length}")
    yield device("SupportedMemoryClocks", count(1), Buffer(u32, 1), note="room for 1")


def null_pointers():
    for what in ONE_ANSWER:
        yield device(what, NULL, note="null for the answer")
    yield ask("nvmlSystemGetDriverVersion", NULL, u32(80), note="null for the answer")
    yield ask("nvmlDeviceGetCount_v2", NULL, note="null for the answer")
    yield ask("nvmlDeviceGetHandleByIndex_v2", u32(0), NULL, note="null for the answer")
    yield ask("nvmlDeviceGetHandleByUUID", Saved("uuid"), NULL, note="null for the answer")
    yield ask("nvmlDeviceGetHandleByUUID", NULL, Handle(), note="null for the UUID")
    yield ask("nvmlDeviceGetHandleByPciBusId_v2", NULL, Handle(), note="null for the address")
    yield device("Name", NULL, u32(96), note="null for the answer")
    yield device("MigMode", number(), NULL, note="null for the second answer")
    yield device("MigMode", NULL, number(), note="null for the first answer")
    yield device("CudaComputeCapability", number(), NULL, note="null for the second answer")
    yield device("FieldValues", u32(1), NULL, note="null for the values")
    yield device("GpuInstanceProfileInfo", u32(0), NULL, note="null for the answer")
    yield device("GpuInstancePossiblePlacements_v2", u32(19), NULL, NULL, note="null for the count")
    for version in ("", "_v2", "_v3"):
        what = "ComputeRunningProcesses" + version
        yield device(what, NULL, NULL, note="null for the count")
        yield device(what, count(4), NULL, note="room for 4 at null")
    yield ask("nvmlDeviceGetName", NULL, Text(96), u32(96), note="null for the device")
    yield ask("nvmlDeviceGetMemoryInfo", NULL, Buffer(abi.Memory), note="null for the device")
    yield ask("nvmlDeviceGetMigMode", NULL, number(), number(), note="null for the device")
    yield ask("nvmlEventSetCreate", NULL, note="null for the answer")
    yield ask("nvmlEventSetWait_v2", NULL, Buffer(abi.EventData), u32(0), note="null for the set")
    yield ask("nvmlEventSetFree", NULL, note="null for the set")
    yield ask("nvmlGpmSampleAlloc", NULL, note="null for the answer")
