"""What a program is told of a GPU that is gone and of a driver that is not there."""

import pynvml as nv
from tools import equal, gpus, gpusim, refused

nv.nvmlInit()
first, second = gpus()
uuid = nv.nvmlDeviceGetUUID(second)

gpusim("lose", "--gpu", "1")
refused(nv.NVML_ERROR_GPU_IS_LOST, nv.nvmlDeviceGetMemoryInfo, second)
refused(nv.NVML_ERROR_GPU_IS_LOST, nv.nvmlDeviceGetTemperature, second, nv.NVML_TEMPERATURE_GPU)
equal(nv.nvmlDeviceGetName(first), "NVIDIA H100 80GB HBM3", "the other GPU")
equal(nv.nvmlDeviceGetCount(), 2, "GPUs, the lost one with them")
gpusim("heal", "--gpu", "1")
equal(nv.nvmlDeviceGetUUID(second), uuid, "the healed GPU")

gpusim("require-reset", "--gpu", "1")
refused(nv.NVML_ERROR_RESET_REQUIRED, nv.nvmlDeviceSetMigMode, second, nv.NVML_DEVICE_MIG_ENABLE)
gpusim("heal", "--gpu", "1")

gpusim("fault", "--function", "nvmlDeviceGetTemperature", "--code", "999", "--gpu", "0", "--count", "1")
refused(nv.NVML_ERROR_UNKNOWN, nv.nvmlDeviceGetTemperature, first, nv.NVML_TEMPERATURE_GPU)
assert nv.nvmlDeviceGetTemperature(first, nv.NVML_TEMPERATURE_GPU) > 0, "the fault did not end after one call"

# The library was replaced under running processes: these go on, new ones fail.
gpusim("driver", "--mismatch")
equal(nv.nvmlDeviceGetCount(), 2, "GPUs of a process that was there before the upgrade")
nv.nvmlShutdown()
refused(nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH, nv.nvmlInit)
gpusim("driver", "--load")
nv.nvmlInit()
nv.nvmlShutdown()
gpusim("driver", "--unload")
refused(nv.NVML_ERROR_DRIVER_NOT_LOADED, nv.nvmlInit)
gpusim("heal")
nv.nvmlInit()

# Unplugged: not counted, and its handle finds nothing.
gpusim("unplug", "--gpu", "1")
equal(nv.nvmlDeviceGetCount(), 1, "GPUs after one was unplugged")
refused(nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetHandleByUUID, uuid)
nv.nvmlShutdown()
