"""What the nvidia-ml-py programs share. `pynvml` is NVIDIA's module of the wheel nvidia-ml-py."""

import os
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
