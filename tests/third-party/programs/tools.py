"""What the nvidia-ml-py programs share. `pynvml` is NVIDIA's module of the wheel nvidia-ml-py."""

import inspect
import os
import re
import subprocess

import pynvml as nv


def equal(got, wanted, what):
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"


def refused(code, function, *arguments):
    """Calls a function that must answer this error code."""
    try:
        answer = function(*arguments)
    except nv.NVMLError as error:
        assert error.value == code, f"{function.__name__}: error {error.value} instead of {code}"
        return
    raise AssertionError(f"{function.__name__}: answered {answer!r} instead of error {code}")


def gpusim(*words):
    """`gpusim VERB… NODE ARGUMENT…`: the node comes before the first option."""
    first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    subprocess.run([os.environ["GPUSIM"], *words[:first], os.environ["NODE"], *words[first:]],
                   check=True, stdout=subprocess.DEVNULL)


def gpus():
    return [nv.nvmlDeviceGetHandleByIndex(i) for i in range(nv.nvmlDeviceGetCount())]


def every_query_answers(handle, least):
    """Each query that takes just a device answers a value, `least` of them do, or an error that says something."""
    told = 0
    for name in sorted(dir(nv)):
        if not re.match(r"nvmlDeviceGet(?!HandleBy)", name):
            continue
        function = getattr(nv, name)
        required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        if len(required) != 1:
            continue
        try:
            function(handle)
            told += 1
        except nv.NVMLError as error:
            bad = (nv.NVML_ERROR_UNKNOWN, nv.NVML_ERROR_FUNCTION_NOT_FOUND, nv.NVML_ERROR_UNINITIALIZED,
                   nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
            assert error.value not in bad, f"{name}: {error}"
    assert told >= least, f"only {told} queries answered a value"


def client(*options):
    """Starts a program that is a client of the first GPU; answers when it is one."""
    words = [os.environ["GPUSIM"], "client", os.environ["NODE"], "--gpu", "0", *options, "--", "sh", "-c",
             "echo there; exec sleep 60"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    equal(process.stdout.readline(), "there\n", "the client's start")
    return process
