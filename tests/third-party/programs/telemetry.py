"""Telemetry: what a busy client does to utilisation, power, GPM metrics, and what memory errors do to counters."""

import time

import pynvml as nv
from tools import client, equal, gpusim, refused

BUSY = 60  # percent


def gpm(take):
    """GPM's utilisation of graphics engine and SMs, in percent, over a short time."""
    first, second = nv.nvmlGpmSampleAlloc(), nv.nvmlGpmSampleAlloc()
    take(first)
    time.sleep(0.3)
    take(second)
    get = nv.c_nvmlGpmMetricsGet_t()
    get.version = nv.NVML_GPM_METRICS_GET_VERSION
    get.numMetrics = 2
    get.sample1, get.sample2 = first, second
    get.metrics[0].metricId = nv.NVML_GPM_METRIC_GRAPHICS_UTIL
    get.metrics[1].metricId = nv.NVML_GPM_METRIC_SM_UTIL
    nv.nvmlGpmMetricsGet(get)
    for sample in (first, second):
        nv.nvmlGpmSampleFree(sample)
    for metric in get.metrics[:2]:
        equal(metric.nvmlReturn, nv.NVML_SUCCESS, f"answer for metric {metric.metricId}")
    return [metric.value for metric in get.metrics[:2]]


def near(got, wanted, what):
    assert abs(got - wanted) <= 6, f"{what}: {got} instead of about {wanted}"


nv.nvmlInit()
device = nv.nvmlDeviceGetHandleByIndex(0)
equal(nv.nvmlDeviceGetUtilizationRates(device).gpu, 0, "utilisation at rest")
idle = nv.nvmlDeviceGetPowerUsage(device)
energy = nv.nvmlDeviceGetTotalEnergyConsumption(device)
tenant = client("--busy", str(BUSY), "--memory", "1GiB")
time.sleep(1.2)
near(nv.nvmlDeviceGetUtilizationRates(device).gpu, BUSY, "utilisation")
busy = nv.nvmlDeviceGetPowerUsage(device)
assert idle < busy <= nv.nvmlDeviceGetEnforcedPowerLimit(device), f"power {idle} mW at rest, {busy} mW busy"
assert nv.nvmlDeviceGetTotalEnergyConsumption(device) > energy, "no energy was used"
samples = nv.nvmlDeviceGetProcessUtilization(device, 0)
equal([it.pid for it in samples], [tenant.pid], "processes with utilisation")
near(samples[0].smUtil, BUSY, "the process's utilisation")
equal(nv.nvmlGpmQueryDeviceSupport(device).isSupportedDevice, 1, "GPM is there")
near(gpm(lambda sample: nv.nvmlGpmSampleGet(device, sample))[0], BUSY, "GPM's utilisation")
tenant.kill()
tenant.wait()

(value,) = nv.nvmlDeviceGetFieldValues(device, [nv.NVML_FI_DEV_ECC_DBE_VOL_TOTAL])
equal((value.nvmlReturn, value.value.ullVal), (nv.NVML_SUCCESS, 0), "memory errors as a field")
gpusim("ecc", "--gpu", "0", "--volatile-uncorrected", "2")
kinds = nv.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nv.NVML_VOLATILE_ECC
equal(nv.nvmlDeviceGetTotalEccErrors(device, *kinds), 2, "memory errors")
(value,) = nv.nvmlDeviceGetFieldValues(device, [nv.NVML_FI_DEV_ECC_DBE_VOL_TOTAL])
equal(value.value.ullVal, 2, "memory errors as a field")

# A MIG device has no utilisation of its own; GPM has that of its GPU instance.
gpusim("mig", "enable", "--gpu", "0")
gpusim("mig", "create", "--gpu", "0", "--profile", "3g.40gb", "--count", "2")
mig = nv.nvmlDeviceGetMigDeviceHandleByIndex(device, 0)
gi = nv.nvmlDeviceGetGpuInstanceId(mig)
refused(nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetUtilizationRates, mig)
refused(nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetUtilizationRates, device)
tenant = client("--gi", str(gi), "--ci", str(nv.nvmlDeviceGetComputeInstanceId(mig)), "--busy", str(BUSY))
near(gpm(lambda sample: nv.nvmlGpmMigSampleGet(device, gi, sample))[0], BUSY, "GPM's utilisation of the GPU instance")
tenant.kill()
tenant.wait()
nv.nvmlShutdown()
