"""Two containers side by side: which fields are equal, which differ and why."""

from fidelity import known


class Comparison:
    """equal: the names of fields. explained: field -> (native, moved, why). unexplained: field ->
    (native, moved). stale: known differences that ought to be here and are not."""

    def __init__(self):
        self.equal = []
        self.explained = {}
        self.unexplained = {}
        self.stale = []

    def text(self):
        return "differences:\n" + "\n".join(
            f"  {field}\n    native: {native}\n    moved:  {moved}"
            for field, (native, moved) in self.unexplained.items()
        )


def compare(cell, native, moved):
    """The Comparison of two containers of a cell."""
    found = Comparison()
    entries = [entry for entry in known.DIFFERENCES if entry.applies(cell)]
    met = set()
    # Of one that did not come to be there is nothing else to compare.
    failed = native["begin"] != moved["begin"]
    for field in ["begin"] if failed else sorted({*native, *moved}):
        pair = native.get(field), moved.get(field)
        if pair[0] == pair[1]:
            found.equal.append(field)
            continue
        entry = next((entry for entry in entries if entry.explains(field, *pair)), None)
        if entry is None:
            found.unexplained[field] = pair
        else:
            met.add(entry)
            found.explained[field] = (*pair, entry.why)
    if not failed:
        found.stale = [e.field for e in entries if e not in met and not e.varies]
    return found
