"""Two libraries' answers side by side: what differs that should not."""

import re

SHOWN = 60


def flat(value, path=""):
    """Every number and word of an answer with its place, `out[0].total`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and not is_varying(value):
        for at, inner in enumerate(value):
            # A field value is known by its field, wherever it stands in the call.
            named = isinstance(inner, dict) and isinstance(inner.get("field"), int)
            yield from flat(inner, f"field {inner['field']}" if named else f"{path}[{at}]")
    else:
        yield path, shape(value[1]) if is_varying(value) else value


def is_varying(value):
    return isinstance(value, list) and len(value) == 2 and value[0] == "~"


def shape(value):
    """What stays of a value that may differ: that there is one, and the form of a text."""
    if isinstance(value, str):
        return re.sub(r"[0-9A-Fa-f]+", "#", value) if value else ""
    return "a value"


def differences(real, simulated):
    """A list of {function, question, what, real, simulated}; the code alone where the codes differ."""
    found = []
    for question, answer in real.items():
        other = simulated.get(question, {"rc": "not asked"})
        pairs = [("rc", answer["rc"], other["rc"])]
        if answer["rc"] == other["rc"]:
            ours, theirs = dict(flat(answer)), dict(flat(other))
            for place in dict.fromkeys([*ours, *theirs]):
                pairs.append((place, ours.get(place), theirs.get(place)))
        for what, here, there in dict.fromkeys((what, str(a), str(b)) for what, a, b in pairs if a != b):
            found.append({"function": question.split("(")[0], "question": question, "what": what, "real": here,
                          "simulated": there})
    return found


def table(found):
    """The first of them as a Markdown table."""
    lines = ["| question | what | real | simulated |", "|---|---|---|---|"]
    for it in found[:SHOWN]:
        cells = (it["question"], it["what"], it["real"][:SHOWN], it["simulated"][:SHOWN])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    if len(found) > SHOWN:
        lines.append(f"\n{len(found) - SHOWN} more in answers.json.")
    return lines
