"""The README's first command, on this machine's cgroups."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


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
