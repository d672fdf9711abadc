"""NVML by ctypes: structs, arguments that tell what the library wrote, and the one door to call it.

Every buffer is filled with a pattern and followed by guard bytes, so that an answer also tells which fields the
library left alone and whether it wrote beyond the end. Only functions that read can be called: see READ_ONLY.
"""

import ctypes
import re

FILL = 0xA5
GUARD = 64
UNTOUCHED = "untouched"

# What may be called. Nothing here changes a GPU: an event set and a GPM sample are memory of this process.
READ_ONLY = re.compile(
    r"nvml(Init|Init_v2|InitWithFlags|Shutdown|ErrorString|(System|Unit|Device)?(Get|Is)\w+|DeviceOnSameBoard"
    r"|EventSet(Create|Free|Wait|Wait_v2)|DeviceRegisterEvents"
    r"|Gpm(QueryDeviceSupport|QueryIfStreamingEnabled|SampleAlloc|SampleFree|SampleGet|MetricsGet))")

CODES = dict(enumerate(
    "SUCCESS UNINITIALIZED INVALID_ARGUMENT NOT_SUPPORTED NO_PERMISSION ALREADY_INITIALIZED NOT_FOUND "
    "INSUFFICIENT_SIZE INSUFFICIENT_POWER DRIVER_NOT_LOADED TIMEOUT IRQ_ISSUE LIBRARY_NOT_FOUND "
    "FUNCTION_NOT_FOUND CORRUPTED_INFOROM GPU_IS_LOST RESET_REQUIRED OPERATING_SYSTEM LIB_RM_VERSION_MISMATCH "
    "IN_USE MEMORY NO_DATA VGPU_ECC_NOT_SUPPORTED INSUFFICIENT_RESOURCES FREQ_NOT_SUPPORTED "
    "ARGUMENT_VERSION_MISMATCH DEPRECATED NOT_READY GPU_NOT_FOUND INVALID_STATE RESET_TYPE_NOT_SUPPORTED".split()))
CODES[999] = "UNKNOWN"

_TYPES = {"I": ctypes.c_uint32, "i": ctypes.c_int32, "Q": ctypes.c_uint64, "q": ctypes.c_int64,
          "B": ctypes.c_uint8, "d": ctypes.c_double, "P": ctypes.c_void_p}


def struct(size, text):
    """A C struct of this size; `text` is `name:type …`, with `96s` for characters and `4I` for an array."""
    fields = []
    for word in text.split():
        name, kind = word.split(":")
        count, letter = kind[:-1], kind[-1]
        base = ctypes.c_char if letter == "s" else _TYPES[letter]
        fields.append((name, base * int(count) if count else base))
    made = type("Struct", (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(made) == size, f"{text}: {ctypes.sizeof(made)} bytes instead of {size}"
    return made


_ENGINES = "slices:I instances:I multiprocessors:I copy_engines:I decoders:I encoders:I jpeg:I ofa:I "
_PCI = "legacy:16s domain:I bus:I device:I pci_device_id:I "
Memory = struct(24, "total:Q free:Q used:Q")
MemoryV2 = struct(40, "version:I total:Q reserved:Q free:Q used:Q")
PciInfo = struct(68, _PCI + "subsystem:I bus_id:32s")
PciInfoExt = struct(64, "version:I domain:I bus:I device:I pci_device_id:I subsystem:I base_class:I sub_class:I "
                        "bus_id:32s")
Attributes = struct(40, "multiprocessors:I copy_engines:I decoders:I encoders:I jpeg:I ofa:I gi_slices:I "
                        "ci_slices:I memory_mib:Q")
Utilization = struct(8, "gpu:I memory:I")
TemperatureV = struct(12, "version:I sensor:I celsius:i")
MarginTemperature = struct(8, "version:I celsius:i")
FieldValue = struct(40, "field:I scope:I timestamp:q latency_us:q value_type:I status:I value:Q")
Sample = struct(16, "timestamp_us:Q value:Q")
ViolationTime = struct(16, "reference_us:Q violation_ns:Q")
EccErrorCounts = struct(32, "l1:Q l2:Q device_memory:Q register_file:Q")
RowRemapperHistogram = struct(20, "max:I high:I partial:I low:I none:I")
RemappedRowsV2 = struct(24, "correctable_active:I correctable_inactive:I uncorrectable_active:I "
                            "uncorrectable_inactive:I pending:I failure:I")
FabricInfo = struct(28, "cluster:16B status:I clique:I state:B")
FabricInfoV2 = struct(36, "version:I cluster:16B status:I clique:I state:B health_mask:I")
FabricInfoV3 = struct(40, "version:I cluster:16B status:I clique:I state:B health_mask:I health_summary:B")
VersionedNumber = struct(8, "version:I value:I")
ConfComputeMemory = struct(16, "protected_kib:Q unprotected_kib:Q")
DriverBranch = struct(84, "version:I branch:80s")
GpmMetrics = struct(184, "version:I count:I sample1:P sample2:P "
                    + " ".join(f"id{n}:I status{n}:I value{n}:d names{n}:3P" for n in range(4)))
ProcessV1 = struct(16, "pid:I used:Q")
ProcessV2 = struct(24, "pid:I used:Q gi:I ci:I")
ProcessDetailList = struct(24, "version:I mode:I entries:I array:P")
ProcessUtilization = struct(32, "pid:I timestamp_us:Q sm:I memory:I encoder:I decoder:I")
ProcessesUtilization = struct(24, "version:I entries:I last_seen_us:Q array:P")
EventData = struct(32, "device:P kind:Q data:Q gi:I ci:I")
Placement = struct(8, "start:I size:I")
GiProfileV1 = struct(48, "id:I p2p:I " + _ENGINES + "memory_mib:Q")
GiProfileV2 = struct(152, "version:I id:I p2p:I " + _ENGINES + "memory_mib:Q name:96s")
GiProfileV3 = struct(152, "version:I id:I " + _ENGINES + "memory_mib:Q name:96s capabilities:I")


class Buffer:
    """Memory that the library is given by address: `kind`, any number of them, then guard bytes.

    `vary`: True, or names of fields, whose values differ from machine to machine.
    `save`: the name under which later steps find what is written here.
    """

    def __init__(self, kind, count=None, vary=(), save=None, fill=FILL, **given):
        self.kind, self.count, self.save = kind, count, save
        self.vary = vary
        self.size = ctypes.sizeof(kind) * (1 if count is None else count)
        self.memory = (ctypes.c_uint8 * (self.size + GUARD)).from_buffer_copy(
            bytes([fill]) * self.size + bytes([FILL]) * GUARD)
        for name, value in given.items():
            setattr(kind.from_buffer(self.memory), name, value)

    def argument(self, _world):
        return ctypes.c_void_p(ctypes.addressof(self.memory))

    def value(self, at=0):
        return self.kind.from_buffer(self.memory, at * ctypes.sizeof(self.kind))

    def beyond(self):
        """How many bytes behind the end were written."""
        guard = bytes(self.memory)[self.size:]
        changed = [index for index, byte in enumerate(guard) if byte != FILL]
        return changed[-1] + 1 if changed else 0

    def _one(self, at):
        start = at * ctypes.sizeof(self.kind)
        if not issubclass(self.kind, ctypes.Structure):
            raw = bytes(self.memory)[start:start + ctypes.sizeof(self.kind)]
            return told(raw, self.value(at).value, self.vary is True)
        found = {}
        for name, kind in self.kind._fields_:
            place = getattr(self.kind, name)
            raw = bytes(self.memory)[start + place.offset:start + place.offset + place.size]
            value = getattr(self.value(at), name)
            if kind is ctypes.c_void_p:
                value = "pointer" if value else "NULL"
            elif isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, ctypes.Array):
                value = [str(it) for it in value] if kind._type_ is ctypes.c_void_p else list(value)
            found[name] = told(raw, value, self.vary is True or name in self.vary)
        return found

    def seen(self):
        return self._one(0) if self.count is None else [self._one(at) for at in range(self.count)]


def told(raw, value, vary):
    """A value, the word for one that was not written, or `["~", value]` for one that may differ."""
    if raw == bytes([FILL]) * len(raw):
        return UNTOUCHED
    return ["~", value] if vary else value


class Text(Buffer):
    """Characters for a function that is told their number by the next argument."""

    def __init__(self, length, **options):
        super().__init__(ctypes.c_uint8, length, **options)

    def seen(self):
        raw = bytes(self.memory)[:self.size]
        return told(raw, raw.split(b"\0")[0].decode("utf-8", "replace"), self.vary is True)


class Handle(Buffer):
    """A handle that the library gives out."""

    def __init__(self, save=None):
        super().__init__(ctypes.c_void_p, save=save)

    def seen(self):
        value = self.value().value
        return UNTOUCHED if value == int.from_bytes(bytes([FILL]) * 8, "little") else "handle" if value else "NULL"


class Versioned(Buffer):
    """A struct whose first word is its version and size, which the caller fills."""

    def __init__(self, kind, version, **options):
        super().__init__(kind, version=ctypes.sizeof(kind) | version << 24, **options)


class Saved:
    """What an earlier step, or the start, has found: the device, its UUID, an event set."""

    def __init__(self, name):
        self.name = name

    def argument(self, world):
        found = world.get(self.name)
        if isinstance(found, bytes):
            return ctypes.c_char_p(found)
        return ctypes.c_void_p(found) if found else None


def number(vary=False, **options):
    return Buffer(ctypes.c_uint32, vary=vary, **options)


def number64(vary=False):
    return Buffer(ctypes.c_uint64, vary=vary)


def count(start):
    """A count that the library reads and writes."""
    made = Buffer(ctypes.c_uint32)
    made.value().value = start
    return made


DEVICE = Saved("device")
NULL = ctypes.c_void_p(None)
u32, u64, text = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p


def call(library, world, name, arguments):
    """Calls a function and answers what it said: a code, what it wrote, and what it wrote too much."""
    if not READ_ONLY.fullmatch(name):
        raise ValueError(f"{name} is not one of the functions that only read")
    try:
        function = library[name]
    except AttributeError:
        return {"rc": "no such symbol"}
    passed = [it.argument(world) if hasattr(it, "argument") else it for it in arguments]
    if any(it is None for it in passed):
        return {"rc": "not asked: an earlier call gave nothing"}
    if name == "nvmlErrorString":
        function.restype = ctypes.c_char_p
        return {"rc": (function(*passed) or b"").decode("utf-8", "replace")}
    function.restype = ctypes.c_int
    code = function(*passed)
    buffers = [it for it in arguments if isinstance(it, Buffer)]
    for it in buffers:
        if it.save and code == 0:
            world[it.save] = it.value().value
    answer = {"rc": CODES.get(code, str(code)), "out": [it.seen() for it in buffers]}
    beyond = sum(it.beyond() for it in buffers)
    return {**answer, "beyond": beyond} if beyond else answer
