"""The guest is what the tests marked `guest` and `tcg` take it for."""

import os
import shutil
import subprocess

import pytest

CGROUP = "/sys/fs/cgroup"


def controllers():
    with open(f"{CGROUP}/cgroup.controllers") as file:
        return set(file.read().split())


@pytest.mark.guest
def test_systemd_runs_on_pure_cgroup_v2():
    state = subprocess.run(
        ["systemctl", "is-system-running"], stdout=subprocess.PIPE, text=True
    ).stdout
    assert state.strip() == "running"
    with open("/proc/self/cgroup") as file:
        assert file.read().startswith("0::/")
    assert {"cpu", "io", "memory", "pids"} <= controllers()


@pytest.mark.guest
@pytest.mark.parametrize("runtime", ["runc", "crun", "podman"])
def test_runtime_is_there(runtime):
    assert shutil.which(runtime)


@pytest.mark.tcg
def test_kernel_has_cpuset_and_hugetlb():
    assert {"cpuset", "hugetlb"} <= controllers()
    assert os.path.exists(f"{CGROUP}/cpuset.cpus.effective")
