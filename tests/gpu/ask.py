"""Asks one NVML library everything and writes what it said: `ask.py LIBRARY FILE FIRST`.

FILE gets two lines for each question: `>` and its number and name, then the answer as JSON. Where a driver dies of a
question or hangs, the file ends with the first line: whoever runs this starts it again with FIRST behind that one.
"""

import ctypes
import json
import sys

import abi
import mig_queries
import mistakes
import queries

BEFORE, RUNNING, AFTER = range(3)


def questions():
    """(phase, name, function, arguments) of all of them; the order is always the same."""
    for phase, steps in ((BEFORE, mistakes.before_init()), (RUNNING, queries.everything()),
                         (RUNNING, mig_queries.everything()), (RUNNING, mistakes.while_running()),
                         (AFTER, mistakes.after_shutdown())):
        for step in steps:
            yield phase, *step


def start(library):
    """Starts NVML and finds the first GPU: what later questions refer to."""
    code = library.nvmlInit_v2()
    assert code == 0, f"nvmlInit_v2: {abi.CODES.get(code, code)}"
    device = abi.Handle()
    library.nvmlDeviceGetHandleByIndex_v2(0, device.argument({}))
    world = {"device": device.value().value}
    uuid, pci = abi.Text(96), abi.Buffer(abi.PciInfo)
    library.nvmlDeviceGetUUID(abi.DEVICE.argument(world), uuid.argument({}), 96)
    library.nvmlDeviceGetPciInfo_v3(abi.DEVICE.argument(world), pci.argument({}))
    return {**world, "uuid": uuid.seen().encode(), "bus": pci.value().bus_id}


def main(path, file, first):
    library = ctypes.CDLL(path)
    phase, world = BEFORE, {}
    with open(file, "a", encoding="utf-8") as out:
        for number, (wanted, name, function, arguments) in enumerate(questions()):
            if number < first:
                continue
            if wanted > phase and phase == BEFORE:
                world = start(library)
            if wanted == AFTER and phase != AFTER:
                library.nvmlShutdown()
            phase = wanted
            print(f"> {number} {name}", file=out, flush=True)
            print(json.dumps(abi.call(library, world, function, arguments)), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
