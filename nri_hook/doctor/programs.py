"""The runtimes and engines of this machine: which there are, how old, what they can do."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from nri_hook import trust
from nri_hook.doctor import owners
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.registration import engines, hookfile

RUNTIMES = ("runc", "crun")
SECONDS = 20
NEEDED = hookfile.STAGES


def check(is_hybrid: bool) -> Iterator[Finding]:
    """What is said of the runtimes, then of the engines. is_hybrid: whether v1 controllers and a
    v2 mount stand side by side."""
    found = [name for name in RUNTIMES if _find(name)]
    if not found:
        yield Finding(FAIL, "runtime", "no runc and no crun in $PATH", "apt-get install runc")
    for name in found:
        yield _not_run("runtime", name) or _runtime(name)
    if "crun" in found and is_hybrid:
        yield Finding(
            WARN,
            "runtime",
            "crun refuses hybrid cgroups: v1 controllers beside a v2 mount",
            "use runc, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    podman = _find("podman")
    if podman:
        yield _not_run("engine", "podman") or _podman(podman)
    crio = _first_line("crio", "--version")
    if crio or engines.has_crio():
        what = f"CRI-O: {crio or 'its configuration, no program in $PATH'}"
        yield _not_run("engine", "crio") or Finding(OK, "engine", what)
    if not podman and not engines.has_crio():
        yield Finding(OK, "engine", "no podman and no CRI-O: runc and crun by their bundles alone")


@functools.cache
def podman_version() -> str:
    """Such as "4.3.1"; "" where there is no podman, or none that works."""
    found = re.search(r"\d+(\.\d+)+", _first_line("podman", "--version"))
    return found[0] if found else ""


def _find(name: str) -> str:
    """The absolute path of a program in $PATH, "" if there is none."""
    path = shutil.which(name)
    return trust.absolute(path) if path else ""


def _judge(name: str) -> owners.Unsafe | None:
    path = _find(name)
    return owners.judge(path) if path else None


def _not_run(check: str, name: str) -> Finding | None:
    """What is said of a program that others than root could have written."""
    unsafe = _judge(name)
    if unsafe is None:
        return None
    return Finding(FAIL, check, f"{unsafe.what}, so it is not run", unsafe.fix)


def _podman(podman: str) -> Finding:
    if podman_version():
        return Finding(OK, "engine", f"podman {podman_version()} at {podman}")
    what = f"{podman} does not even say its version"
    return Finding(FAIL, "engine", what, "podman --version, and fix what it complains about")


def _runtime(name: str) -> Finding:
    version = _first_line(name, "--version") or f"{name}: does not say its version"
    text = _output(name, "features")
    try:
        features = json.loads(text)
        hooks = features["hooks"]
    except (ValueError, KeyError, TypeError):
        return Finding(OK, "runtime", f"{version}, which has no `{name} features` to ask")
    missing = [stage for stage in NEEDED if stage not in hooks]
    if missing:
        return Finding(
            FAIL,
            "runtime",
            f"{version} does not call hooks of {', '.join(missing)}",
            f"install a newer {name}",
        )
    said = [f"hooks {', '.join(NEEDED)}", *_cgroups(features)]
    return Finding(OK, "runtime", f"{version}: {'; '.join(said)}")


def _cgroups(features: dict[str, Any]) -> list[str]:
    cgroup = (features.get("linux") or {}).get("cgroup") or {}
    kinds = [kind for kind in ("v1", "v2", "systemd") if cgroup.get(kind)]
    return [f"cgroups {', '.join(kinds)}"] if kinds else []


def _first_line(name: str, *args: str) -> str:
    return _output(name, *args).partition("\n")[0].strip()


def _output(name: str, *args: str) -> str:
    """The standard output of a program in $PATH, if all went well, else "". One that others than
    root could have written is not run."""
    path = _find(name)
    if not path or _judge(name):
        return ""
    try:
        run = subprocess.run(
            [path, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.decode("utf-8", "replace") if run.returncode == 0 else ""
