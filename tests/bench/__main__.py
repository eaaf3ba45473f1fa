"""Run all measurements, keep their numbers in results.json, write docs/performance.md."""

import json
import os
import sys

from support import runtimes

from bench import measure, move, page, scenes

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results.json")


def main():
    quiet = measure.Quiet()
    document = {"versions": scenes.versions(), "move": move.run()}
    document["quiet"] = quiet.end()
    runtimes.close_all()
    with open(RESULTS, "w") as file:
        json.dump(document, file, indent=1)
    page.write(document)
    missed = page.missed(document)
    if missed:
        sys.exit("\n".join(missed))


main()
