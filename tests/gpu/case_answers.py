"""`answers`: every question of ask.py, put to the machine's library and to the simulator made in its likeness."""

import os
import subprocess
import sys
import tempfile

import compare
import machine
from results import Findings

LIMIT = 180
DEATHS = 40


def run(found, results):
    """Passes when every question was put; differences are findings."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="gpushared-answers.") as folder:
        real, died = put(machine.NVML, os.path.join(folder, "real"))
        library = simulator(found, os.path.join(folder, "node"), findings)
        simulated, died_too = put(library, os.path.join(folder, "simulated")) if library else ({}, [])
    differences = compare.differences(real, simulated) if library else []
    results.write("answers.json", {"differences": differences, "real": real, "simulated": simulated,
                                   "died of": {"real": died, "simulated": died_too}})
    findings.say(f"{len(real)} questions put, {sum(it['rc'] == 'SUCCESS' for it in real.values())} answered SUCCESS")
    if died:
        findings.say(f"the real library died of {len(died)}: {', '.join(died)}")
    if died_too:
        findings.say(f"the simulator died of {len(died_too)}: {', '.join(died_too)}")
    beyond = [name for name, answer in real.items() if answer.get("beyond")]
    if beyond:
        findings.say(f"the real library wrote behind the end of the buffer: {', '.join(beyond)}")
    if library:
        functions = {it["function"] for it in differences}
        findings.say(f"{len(differences)} differences in {len(functions)} functions between library and simulator")
        findings.lines += compare.table(differences) if differences else []
    return findings


def simulator(found, folder, findings):
    """A simulated node like this machine: its NVML library, or nothing where the model is unknown."""
    gpusim = machine.program("gpusim")
    models = subprocess.run([gpusim, "models"], capture_output=True, text=True, check=True).stdout.splitlines()
    keys = {name.strip(): key for key, name in (line.split(None, 1) for line in models)}
    names = set(found["gpus"])
    if len(names) != 1 or not names <= set(keys):
        findings.say(f"nothing to compare with: the simulator has no node with {', '.join(sorted(names))}")
        return None
    like = f"{keys[names.pop()]}:{len(found['gpus'])}"
    subprocess.run([gpusim, "init", folder, "--gpu", like, "--driver", found["driver"]], check=True,
                   stdout=subprocess.DEVNULL)
    findings.say(f"compared with: gpusim init --gpu {like} --driver {found['driver']}")
    return os.path.join(folder, "lib/libnvidia-ml.so.1")


def put(library, file):
    """Puts all questions to a library, in as many processes as it takes: answers by name, and what it died of."""
    died, first = [], 0
    while True:
        command = [sys.executable, "-B", os.path.join(machine.HERE, "ask.py"), library, file, str(first)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
            ended, words = done.returncode, done.stderr
        except subprocess.TimeoutExpired:
            ended, words = "hung", ""
        answers, last = read(file)
        if ended == 0:
            return answers, died
        # A question without an answer is what it died of; a traceback is an error of this program.
        number, name = last
        assert name is not None and number >= first and "Traceback" not in words, f"ask.py: {words[-2000:]}"
        assert len(died) < DEATHS, f"died of too many questions: {died}"
        how = "hung" if ended == "hung" else f"ended by signal {-ended}" if ended < 0 else f"ended with {ended}"
        with open(file, "a", encoding="utf-8") as out:
            out.write(f'{{"rc": "{how}"}}\n')
        died.append(f"{name} ({how})")
        first = number + 1


def read(file):
    """Answers by the name of the question, and number and name of one that has none yet."""
    answers, number, name = {}, -1, None
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("> "):
                _, number, name = line.rstrip("\n").split(" ", 2)
            else:
                answers[name], name = machine.json.loads(line), None
    return answers, (int(number), name)
