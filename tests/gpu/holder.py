"""A process that holds GPU memory until its input ends: `holder.py cuda|torch BYTES`.

`cuda` uses the driver's library by ctypes and nothing else; `torch` uses PyTorch. It prints one JSON line when it has
the memory.
"""

import ctypes
import json
import os
import sys

import machine


def by_cuda(size):
    """With the driver API: a primary context and one allocation. Also asks for names that do not exist."""
    cuda = ctypes.CDLL(machine.CUDA)

    def ok(name, *arguments):
        code = cuda[name](*arguments)
        assert code == 0, f"{name}: CUDA error {code}"

    told = {}
    for name in ("", "cuNoSuchName") if hasattr(cuda, "cuGetProcAddress_v2") else ():
        for version in (0, 13000):
            pointer, status = ctypes.c_void_p(1), ctypes.c_int(-1)
            code = cuda["cuGetProcAddress_v2"](name.encode(), ctypes.byref(pointer), ctypes.c_int(version),
                                               ctypes.c_uint64(0), ctypes.byref(status))
            told[f"cuGetProcAddress_v2('{name}', {version})"] = {
                "code": code, "pointer": "untouched" if pointer.value == 1 else "NULL" if not pointer.value else "set",
                "status": status.value}
    ok("cuInit", 0)
    device, context, place = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    ok("cuDeviceGet", ctypes.byref(device), 0)
    ok("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    ok("cuCtxSetCurrent", context)
    ok("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return {"free": free.value, "total": total.value, **told}


def by_torch(size):
    """With PyTorch's allocator."""
    import torch

    held = torch.empty(size, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    by_torch.held = held
    return {"free": free, "total": total, "reserved": torch.cuda.memory_reserved(), "torch": torch.__version__}


if __name__ == "__main__":
    held = {"cuda": by_cuda, "torch": by_torch}[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"pid": os.getpid(), **held}), flush=True)
    sys.stdin.read()
