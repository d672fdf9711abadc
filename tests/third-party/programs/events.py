"""Events: Xids of a GPU, of a GPU instance and of a compute instance reach every set that asked."""

import time

import pynvml as nv
from tools import equal, gpus, gpusim, refused

NONE = 0xFFFFFFFF


def wait(events, limit=5000):
    event = nv.nvmlEventSetWait_v2(events, limit)
    equal(event.eventType, nv.nvmlEventTypeXidCriticalError, "type of the event")
    return nv.nvmlDeviceGetIndex(event.device), event.eventData, event.gpuInstanceId, event.computeInstanceId


gpusim("mig", "enable", "--gpu", "0")
gpusim("mig", "create", "--gpu", "0", "--profile", "1g.10gb", "--count", "2")
nv.nvmlInit()
first, second = gpus()
instances = []
for index in range(2):
    mig = nv.nvmlDeviceGetMigDeviceHandleByIndex(first, index)
    instances.append((nv.nvmlDeviceGetGpuInstanceId(mig), nv.nvmlDeviceGetComputeInstanceId(mig)))
assert nv.nvmlDeviceGetSupportedEventTypes(first) & nv.nvmlEventTypeXidCriticalError

both, one = nv.nvmlEventSetCreate(), nv.nvmlEventSetCreate()
gpusim("xid", "--gpu", "1", "--xid", "13")  # before the registration: not for these sets
for device in (first, second):
    nv.nvmlDeviceRegisterEvents(device, nv.nvmlEventTypeXidCriticalError, both)
nv.nvmlDeviceRegisterEvents(second, nv.nvmlEventTypeXidCriticalError, one)

started = time.monotonic()
refused(nv.NVML_ERROR_TIMEOUT, nv.nvmlEventSetWait_v2, both, 200)
assert 0.15 < time.monotonic() - started < 2, "a wait of 200 ms took another time"

gpusim("xid", "--gpu", "1", "--xid", "79")
equal(wait(both), (1, 79, NONE, NONE), "Xid of a GPU")
equal(wait(one), (1, 79, NONE, NONE), "the same Xid in another set")
gi, ci = instances[1]
gpusim("xid", "--gpu", "0", "--xid", "94", "--gi", str(gi))
equal(wait(both), (0, 94, gi, NONE), "Xid of a GPU instance")
gpusim("xid", "--gpu", "0", "--xid", "43", "--gi", str(gi), "--ci", str(ci))
equal(wait(both), (0, 43, gi, ci), "Xid of a compute instance")
refused(nv.NVML_ERROR_TIMEOUT, nv.nvmlEventSetWait_v2, one, 0)
# In order, none lost.
for xid in (31, 45, 48):
    gpusim("xid", "--gpu", "0", "--xid", str(xid))
equal([wait(both)[1] for _ in range(3)], [31, 45, 48], "three Xids in a row")
nv.nvmlEventSetFree(both)
nv.nvmlEventSetFree(one)
nv.nvmlShutdown()
