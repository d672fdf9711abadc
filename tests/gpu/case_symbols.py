"""`symbols`: the nvml names that the machine's library exports against those of the simulator's."""

import machine
from exports import exported
from results import Findings


def run(found, results):
    """Passes when both lists could be read; a name on one side only is a finding."""
    real = exported(found["library"], "nvml")
    simulated = exported(machine.program("libnvidia_ml.so"), "nvml")
    assert len(real) > 100, f"only {len(real)} names in {found['library']}"
    missing, surplus = sorted(real - simulated), sorted(simulated - real)
    results.write("symbols.json", {"real": len(real), "simulated": len(simulated),
                                   "missing in the simulator": missing, "missing in the real library": surplus})
    findings = Findings()
    findings.say(f"{len(real)} names exported, {len(simulated)} by the simulator")
    findings.say(f"missing in the simulator, {len(missing)}: {', '.join(missing) or 'none'}")
    findings.say(f"missing in the real library, {len(surplus)}: {', '.join(surplus) or 'none'}")
    return findings
