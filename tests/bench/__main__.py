"""Run all measurements, keep their numbers in results.json, write docs/performance.md.

With `page`: write it from the numbers of the last run.
"""

import json
import os
import sys

from support import runtimes

from bench import chain, crowd, doings, grace, measure, move, noops, page, parts, runs, scenes

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results.json")


def measured():
    quiet = measure.Quiet()
    document = {"versions": scenes.versions(), "language": noops.language()}
    for module in (chain, parts, doings, move, runs, crowd, grace):
        name = module.__name__.rpartition(".")[2]
        print(f"{name} ...", flush=True)
        document[name] = module.run()
    document["quiet"] = quiet.end()
    runtimes.close_all()
    with open(RESULTS, "w") as file:
        json.dump(document, file, indent=1)


def main(words):
    if words != ["page"]:
        measured()
    with open(RESULTS) as file:
        document = json.load(file)
    page.write(document)
    missed = page.missed(document)
    if missed:
        sys.exit("\n".join(["missed:", *missed]))


main(sys.argv[1:])
