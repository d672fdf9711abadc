"""What a run leaves behind: JSON files and summary.md, which can be pasted into docs/hardware.md."""

import datetime
import json
import os


class Findings:
    """What a case saw: lines for the summary."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append("- " + line)


class Skipped(Exception):
    """The case cannot run here."""


class Results:
    """The folder with the results."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = []
        self.details = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, value):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.write("\n")

    def add(self, case, outcome, findings):
        """Takes a case's outcome and what it saw."""
        self.rows.append((case, outcome))
        self.details += ["", f"### {case}: {outcome}", "", *findings]

    def summary(self, found, command, commit):
        """Writes summary.md."""
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        gpus = ", ".join(f"{found['gpus'].count(name)} x {name}" for name in dict.fromkeys(found["gpus"]))
        what = "SIMULATED: " if found["simulated"] else ""
        seen = "; ".join(f"{case} {outcome}" for case, outcome in self.rows)
        lines = [f"## {what}{gpus}, driver {found['driver']}, {date}", "",
                 "| date | driver | GPU | command | what was seen |", "|---|---|---|---|---|",
                 f"| {date} | {found['driver']} | {what}{gpus} | `{command}` | {seen} |", "",
                 f"CUDA {found['cuda']} of the driver, Linux {found['kernel']}, MIG {', '.join(set(found['mig']))}, "
                 f"gpushared at {commit}.", *self.details]
        with open(self.path("summary.md"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
