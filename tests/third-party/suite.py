"""Runs the cases that the command line names by any part of their names, or all of them."""

import sys
import time
import traceback

import harness
from cases import device_plugin, gpushared, mig_parted, ml_py, monitors  # noqa: F401  each adds its cases


def main(wanted):
    chosen = [
        (name, body)
        for name, body in harness.CASES
        if not wanted or any(part in name for part in wanted)
    ]
    if not chosen:
        print("no case is named like that; there are:", file=sys.stderr)
        for name, _ in harness.CASES:
            print("  " + name, file=sys.stderr)
        return 64
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, body in chosen:
        started = time.monotonic()
        try:
            body()
            counts["passed"] += 1
            print(f"passed {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except harness.Skipped as why:
            counts["skipped"] += 1
            print(f"skipped {name}: {why}", flush=True)
        except Exception as error:
            counts["failed"] += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        finally:
            harness.close_all()
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
