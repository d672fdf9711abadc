"""Runs the cases and counts them: `suite.py [case…]`, started by tests/gpu/run."""

import os
import sys
import traceback

import case_answers
import case_daemon
import case_processes
import case_symbols
import machine
from results import Results, Skipped

CASES = {"answers": case_answers, "symbols": case_symbols, "daemon": case_daemon, "processes": case_processes}


def main(names):
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no case is named {', '.join(unknown)}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 64
    results = Results(os.environ["OUT"])
    found = machine.seen()
    outcomes = []
    print(f"{len(found['gpus'])} x {found['gpus'][0]}, driver {found['driver']}" +
          (", SIMULATED" if found["simulated"] else ""))
    for name in names or CASES:
        print(f"== {name}", flush=True)
        try:
            lines, outcome = CASES[name].run(found, results).lines, "passed"
        except Skipped as why:
            lines, outcome = [f"- {why}"], "skipped"
        except Exception as error:  # a case that fails must not hide what the others see
            traceback.print_exc(limit=-3)
            lines, outcome = [f"- {last_line(error)}"], "failed"
        print("\n".join(lines))
        print(f"{outcome} {name}", flush=True)
        results.add(name, outcome, lines)
        outcomes.append(outcome)
        # Written after each case: what was seen stays, whatever becomes of the next.
        results.summary(found, " ".join(["tests/gpu/run", *names]), commit())
    print(", ".join(f"{outcomes.count(it)} {it}" for it in ("passed", "failed", "skipped")))
    return 1 if "failed" in outcomes else 0


def last_line(error):
    """What an error says, without what came before its last line."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def commit():
    """The commit of the programs, where it is known."""
    path = os.path.join(os.environ["GPU_TEST_BIN"], "commit")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return "the working tree"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
