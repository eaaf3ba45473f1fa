"""The result of a session as JSON, one file for each machine and Debian."""

import json
import os
import platform

from fidelity import cells, environments

# In a guest the tree is a copy that ends with it; the clone itself is shared there.
SHARE = "/share/tests/e2e/fidelity"
HERE = SHARE if os.path.isdir(SHARE) else os.path.dirname(os.path.abspath(__file__))
DIRECTORY = f"{HERE}/results"


class Results:
    """What write() shall write: add() is called for each cell."""

    def __init__(self):
        self.cells = []

    def add(self, cell, comparison):
        self.cells.append(
            {
                "environment": cell.environment,
                "way": cell.way,
                "pids": cell.pids,
                "kind": cell.kind.name,
                "left": cell.left,
                "equal": comparison.equal,
                "explained": comparison.explained,
                "unexplained": comparison.unexplained,
                "stale": comparison.stale,
            }
        )

    def write(self):
        """Of a whole table, or of a part under another name."""
        wanted = [cell for name in environments.names() for cell in cells.cells(name)]
        whole = cells.WHOLE if len(self.cells) == len(wanted) else ""
        machine, suite = machine_and_suite()
        document = {
            "machine": machine,
            "suite": suite,
            "versions": environments.versions(),
            "cells": self.cells,
        }
        os.makedirs(DIRECTORY, exist_ok=True)
        name = f"{machine}-{suite}-{whole or 'part'}.json"
        with open(f"{DIRECTORY}/{name}", "w") as file:
            json.dump(document, file, indent=1)


def machine_and_suite():
    """("host", "uml" or "qemu", the Debian)."""
    with open("/proc/cmdline") as file:
        line = file.read()
    machine = "uml" if "vmrun.uml" in line else "qemu" if "vmrun" in line else "host"
    with open("/etc/debian_version") as file:
        version = file.read().strip()
    # testing and unstable have the same name in os-release.
    release = platform.freedesktop_os_release()
    return machine, "sid" if version.endswith("/sid") else release["VERSION_CODENAME"]
