"""The questions that a driver is asked as it should be: a list of (name, function, arguments).

The name tells a question from the others of the same function. Buffers belong to one question each. What MIG is asked
stands in mig_queries.py, what is asked wrongly in mistakes.py.
"""

import os

import abi
from abi import DEVICE, NULL, Buffer, Handle, Saved, Text, Versioned, count, number, number64, u32, u64

NUMBERS = """Index Brand Architecture NumGpuCores MultiGpuBoard MemoryBusWidth PowerSource NumFans PowerManagementMode
    PersistenceMode ComputeMode DisplayMode DisplayActive VirtualizationMode HostVgpuMode AccountingMode
    AccountingBufferSize MaxPcieLinkGeneration GpuMaxPcieLinkGeneration MaxPcieLinkWidth PcieLinkMaxSpeed PcieSpeed
    BusType RetiredPagesPendingStatus DefaultEccMode EnforcedPowerLimit PowerManagementLimit
    PowerManagementDefaultLimit PerformanceState PowerState FanSpeed AdaptiveClockInfoStatus""".split()
LOCAL_NUMBERS = """MinorNumber BoardId ModuleId IrqNum NumaNodeId CurrPcieLinkGeneration CurrPcieLinkWidth
    PcieReplayCounter PowerUsage InforomConfigurationChecksum""".split()
PAIRS = """CudaComputeCapability EccMode PowerManagementLimitConstraints GspFirmwareMode AutoBoostedClocksEnabled
    GpuOperationMode MinMaxFanSpeed DriverModel DriverModel_v2""".split()
PROCESS_LISTS = ["Compute", "Graphics", "MPSCompute"]
GPM_METRICS = (1, 2, 10, 20)
FIELDS = 304
FIELDS_PER_CALL = 64


def everything():
    """All of them, in the order in which they are asked."""
    return [*system(), *identity(), *memory(), *errors(), *power_and_clocks(), *bus(), *processes(), *fields(),
            *gpm(), *events()]


def ask(name, *arguments, note=""):
    return (f"{name}({note})" if note else name, name, list(arguments))


def device(what, *arguments, note=""):
    return ask("nvmlDeviceGet" + what, DEVICE, *arguments, note=note)


def text(what, length, note="", **options):
    return device(what, Text(length, **options), u32(length), note=note)


def system():
    for name in ("DriverVersion", "NVMLVersion"):
        yield ask("nvmlSystemGet" + name, Text(80), u32(80))
    for name in ("CudaDriverVersion", "CudaDriverVersion_v2"):
        yield ask("nvmlSystemGet" + name, number())
    yield ask("nvmlSystemGetDriverBranch", Versioned(abi.DriverBranch, 1), u32(80))
    yield ask("nvmlSystemGetProcessName", u32(os.getpid()), Text(64, vary=True), u32(64))
    yield ask("nvmlSystemGetProcessName", u32(0x7FFF_FFF0), Text(64), u32(64), note="no such process")
    yield ask("nvmlUnitGetCount", number())
    yield ask("nvmlGetExcludedDeviceCount", number())
    yield ask("nvmlSystemGetTopologyGpuSet", u32(0), count(0), NULL, note="count only")
    for code in (*range(32), 999, 1000):
        yield ask("nvmlErrorString", u32(code), note=code)


def identity():
    for name in ("nvmlDeviceGetCount", "nvmlDeviceGetCount_v2"):
        yield ask(name, number())
    for name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByIndex_v2"):
        yield ask(name, u32(0), Handle())
    yield ask("nvmlDeviceGetHandleByUUID", Saved("uuid"), Handle())
    for name in ("nvmlDeviceGetHandleByPciBusId", "nvmlDeviceGetHandleByPciBusId_v2"):
        yield ask(name, Saved("bus"), Handle())
    yield text("Name", 96)
    yield text("UUID", 96, vary=True)
    yield text("Serial", 30, vary=True)
    yield text("BoardPartNumber", 80, vary=True)
    yield text("VbiosVersion", 32, vary=True)
    yield text("InforomImageVersion", 16, vary=True)
    for part in range(4):
        yield device("InforomVersion", u32(part), Text(16, vary=True), u32(16), note=f"object {part}")
    yield device("GspFirmwareVersion", Text(64))
    for what in NUMBERS:
        yield device(what, number())
    for what in LOCAL_NUMBERS:
        yield device(what, number(vary=True))
    for what in PAIRS:
        yield device(what, number(), number())
    for what in ("GpuInstanceId", "ComputeInstanceId"):
        yield device(what, number())
    yield ask("nvmlDeviceIsMigDeviceHandle", DEVICE, number())
    yield ask("nvmlDeviceOnSameBoard", DEVICE, DEVICE, number())
    for kind in range(3):
        yield device("APIRestriction", u32(kind), number(), note=f"api {kind}")
    for what in ("Attributes", "Attributes_v2"):
        yield device(what, Buffer(abi.Attributes))
    yield device("AddressingMode", Versioned(abi.VersionedNumber, 1))
    yield device("GpuFabricInfo", Buffer(abi.FabricInfo))
    yield device("GpuFabricInfoV", Versioned(abi.FabricInfoV2, 2), note="v2")
    yield device("GpuFabricInfoV", Versioned(abi.FabricInfoV3, 3), note="v3")


def memory():
    used = ("free", "used")
    yield device("MemoryInfo", Buffer(abi.Memory, vary=used))
    yield device("MemoryInfo_v2", Versioned(abi.MemoryV2, 2, vary=used))
    yield device("BAR1MemoryInfo", Buffer(abi.Memory, vary=used))
    yield device("ConfComputeMemSizeInfo", Buffer(abi.ConfComputeMemory))
    yield device("ConfComputeProtectedMemoryUsage", Buffer(abi.Memory))


def errors():
    for kind in (0, 1):
        for counter in (0, 1):
            note = f"type {kind}, counter {counter}"
            yield device("TotalEccErrors", u32(kind), u32(counter), number64(), note=note)
            yield device("DetailedEccErrors", u32(kind), u32(counter), Buffer(abi.EccErrorCounts), note=note)
            for place in range(8):
                yield device("MemoryErrorCounter", u32(kind), u32(counter), u32(place), number64(),
                             note=f"{note}, location {place}")
    yield device("RemappedRows", number(), number(), number(), number())
    yield device("RemappedRows_v2", Buffer(abi.RemappedRowsV2))
    yield device("RowRemapperHistogram", Buffer(abi.RowRemapperHistogram))
    for cause in (0, 1):
        yield device("RetiredPages", u32(cause), count(0), NULL, note=f"cause {cause}, count only")
        yield device("RetiredPages", u32(cause), count(4), Buffer(u64, 4), note=f"cause {cause}")
        yield device("RetiredPages_v2", u32(cause), count(4), Buffer(u64, 4), Buffer(u64, 4), note=f"cause {cause}")


def power_and_clocks():
    yield device("TotalEnergyConsumption", number64(vary=True))
    yield device("Temperature", u32(0), number(vary=True))
    yield device("TemperatureV", Versioned(abi.TemperatureV, 1, vary=("celsius",), sensor=0))
    yield device("MarginTemperature", Versioned(abi.MarginTemperature, 1, vary=("celsius",)))
    for kind in range(8):
        yield device("TemperatureThreshold", u32(kind), number(), note=f"kind {kind}")
    for domain in range(4):
        note = f"domain {domain}"
        yield device("ClockInfo", u32(domain), number(vary=True), note=note)
        for what in ("MaxClockInfo", "ApplicationsClock", "DefaultApplicationsClock", "MaxCustomerBoostClock"):
            yield device(what, u32(domain), number(), note=note)
        for clock in range(4):
            yield device("Clock", u32(domain), u32(clock), number(vary=clock == 0), note=f"{note}, clock {clock}")
    yield device("SupportedMemoryClocks", count(0), NULL, note="count only")
    yield device("SupportedMemoryClocks", count(8), Buffer(u32, 8))
    for what in ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons"):
        yield device(what, number64(vary=True))
    for what in ("SupportedClocksEventReasons", "SupportedClocksThrottleReasons"):
        yield device(what, number64())
    for policy in range(7):
        yield device("ViolationStatus", u32(policy), Buffer(abi.ViolationTime, vary=True), note=f"policy {policy}")
    yield device("UtilizationRates", Buffer(abi.Utilization, vary=True))
    for what in ("Encoder", "Decoder", "Jpg", "Ofa"):
        yield device(what + "Utilization", number(vary=True), number())
    for kind in range(8):
        yield device("Samples", u32(kind), u64(0), number(), number(vary=True), NULL, note=f"kind {kind}, count only")


def bus():
    for what in ("PciInfo", "PciInfo_v2", "PciInfo_v3"):
        yield device(what, Buffer(abi.PciInfo, vary=("legacy", "domain", "bus", "device", "bus_id")))
    yield device("PciInfoExt", Versioned(abi.PciInfoExt, 1, vary=("domain", "bus", "device", "bus_id")))
    for counter in range(2):
        yield device("PcieThroughput", u32(counter), number(vary=True), note=f"counter {counter}")
    words = 16
    yield device("CpuAffinity", u32(words), Buffer(u64, words, vary=True))
    for scope in range(2):
        yield device("CpuAffinityWithinScope", u32(words), Buffer(u64, words, vary=True), u32(scope),
                     note=f"scope {scope}")
        yield device("MemoryAffinity", u32(words), Buffer(u64, words, vary=True), u32(scope), note=f"scope {scope}")
    yield device("TopologyCommonAncestor", DEVICE, number())
    yield device("TopologyNearestGpus", u32(50), count(0), NULL, note="count only")
    for index in range(6):
        yield device("P2PStatus", DEVICE, u32(index), number(), note=f"capability {index}")
    for link in range(19):
        yield device("NvLinkState", u32(link), number(), note=f"link {link}")
    yield device("NvLinkRemotePciInfo_v2", u32(0), Buffer(abi.PciInfo, vary=True), note="link 0")
    yield device("NvLinkRemoteDeviceType", u32(0), number(), note="link 0")


def processes():
    # The lists are another program's business when anything runs here: lengths and fields may differ.
    for kind in PROCESS_LISTS:
        for version, entry in (("", abi.ProcessV1), ("_v2", abi.ProcessV2), ("_v3", abi.ProcessV2)):
            what = f"{kind}RunningProcesses{version}"
            yield device(what, count(0), NULL, note="count only")
            yield device(what, count(2), Buffer(entry, 2, vary=True))
    for mode in range(4):
        yield device("RunningProcessDetailList", Versioned(abi.ProcessDetailList, 1, fill=0, mode=mode),
                     note=f"mode {mode}, count only")
    yield device("ProcessUtilization", NULL, count(0), u64(0), note="count only")
    yield device("ProcessUtilization", Buffer(abi.ProcessUtilization, 4, vary=True), count(4), u64(0))
    yield device("ProcessesUtilizationInfo", Versioned(abi.ProcessesUtilization, 1, fill=0), note="count only")


def fields():
    vary = ("timestamp", "latency_us", "value")
    for first in range(0, FIELDS, FIELDS_PER_CALL):
        number_here = min(FIELDS_PER_CALL, FIELDS - first)
        values = Buffer(abi.FieldValue, number_here, fill=0, vary=vary)
        for at in range(number_here):
            values.value(at).field = first + at
        yield device("FieldValues", u32(number_here), values, note=f"{first} to {first + number_here - 1}")


def gpm():
    yield ask("nvmlGpmQueryDeviceSupport", DEVICE, Buffer(abi.VersionedNumber, version=1))
    yield ask("nvmlGpmQueryIfStreamingEnabled", DEVICE, number())
    samples = [Saved("first sample"), Saved("second sample")]
    for sample in samples:
        yield ask("nvmlGpmSampleAlloc", Handle(save=sample.name), note=sample.name)
    for sample in samples:
        yield ask("nvmlGpmSampleGet", DEVICE, sample, note=sample.name)
    metrics = Metrics()
    yield ask("nvmlGpmMetricsGet", metrics)
    for sample in samples:
        yield ask("nvmlGpmSampleFree", sample, note=sample.name)


class Metrics(Buffer):
    """Four GPM metrics over two samples; `version` is a plain 1 here."""

    def __init__(self):
        values = tuple(f"{field}{n}" for n in range(len(GPM_METRICS)) for field in ("value", "names"))
        ids = {f"id{n}": metric for n, metric in enumerate(GPM_METRICS)}
        super().__init__(abi.GpmMetrics, fill=0, vary=values, version=1, count=len(GPM_METRICS), **ids)

    def argument(self, world):
        if not world.get("first sample") or not world.get("second sample"):
            return None
        self.value().sample1, self.value().sample2 = world["first sample"], world["second sample"]
        return super().argument(world)


def events():
    yield device("SupportedEventTypes", number64())
    events_of = Saved("event set")
    yield ask("nvmlEventSetCreate", Handle(save=events_of.name))
    yield ask("nvmlDeviceRegisterEvents", DEVICE, u64(8), events_of, note="Xid")
    yield ask("nvmlDeviceRegisterEvents", DEVICE, u64(0), events_of, note="none")
    yield ask("nvmlDeviceRegisterEvents", DEVICE, u64(1 << 40), events_of, note="unknown type")
    yield ask("nvmlEventSetWait_v2", events_of, Buffer(abi.EventData), u32(0), note="at once")
    yield ask("nvmlEventSetWait", events_of, Buffer(abi.EventData), u32(0), note="at once")
    yield ask("nvmlEventSetFree", events_of)
