"""The README's first command, on this machine's cgroups, and what the README prints of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support import tree

TOP = Path(tree.TOP)


def test_demo_moves_a_container_and_leaves_nothing():
    run = subprocess.run(
        [sys.executable, TOP / "demo/run"],
        env={**os.environ, "PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout
    assert '"cgroupsPath": "/nri-demo-' in run.stdout
    assert "no cgroup, no record" in run.stdout
    printed = re.search(r"^    \$ .*?(?=\n\n)", (TOP / "README.md").read_text(), re.M | re.S)
    assert shape(run.stdout) == shape(re.sub("^    ", "", printed[0], flags=re.M))


def shape(transcript):
    """Its lines without what differs from run to run, and what from machine to machine."""
    text = re.sub(r"nri-demo-\w+", "nri-demo", transcript.strip())
    text = re.sub(r'"pid": \d+', '"pid": 1', text)
    text = re.sub(r" in \d+ of \d+ hierarchies .*", "", text)
    return re.sub(r"^(limit +)\S*(/nri-demo\S*/)\S+:", r"\1\2", text, flags=re.M).splitlines()
