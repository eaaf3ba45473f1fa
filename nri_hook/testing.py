"""pytest fixtures for authors of plugins: real calls, and real containers under runc.

# conftest.py
pytest_plugins = ["nri_hook.testing"]

# test_latency.py, run as root
def test_it_is_placed(nri_container):
    container = nri_container({"qos.class": "ls"}, plugin="latency.py", conf={"parent": "/qos"})
    assert container.cgroups()[""] == f"/qos/{container.id}"
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from nri_hook import cli, strictjson, trust
from nri_hook.cgroups import directories, hierarchies
from nri_hook.client import State, Task, request_for
from nri_hook.errors import HookError
from nri_hook.hook import payload
from nri_hook.hook.plugin import at as plugin_at
from nri_hook.skel import Result

SECONDS = 30.0
APPLETS = ("sh", "sleep", "cat", "echo", "grep", "true", "false")
# Ends at once on TERM, which a shell as the first process would not.
LOOP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")

_numbers = itertools.count()


@pytest.fixture
def nri_request() -> Callable[..., dict[str, Any]]:
    """A payload without a container: nri_request(state, annotations, resources, cgroups_path, conf,
    id), all of which have a default."""
    return _request


@pytest.fixture
def nri_invoke() -> Callable[..., Result]:
    """Call a plugin as the hook does: nri_invoke(path, payload) -> Result.

    path: of an executable, or of a .py file, which is hosted. Raises HookError where the hook would
    have failed the container.
    """
    return _invoke


@pytest.fixture
def nri_container() -> Iterator[Callable[..., Container]]:
    """A container under runc, created and not started:

    nri_container(annotations, resources, cgroups_path, plugin, conf). plugin: a path; the hook
    calls it, with `conf`, when the container is created and deleted. Raises RuntimeError with what
    runc and the hook said where the create fails. All is deleted at the end of the test.
    """
    reason = _missing()
    if reason:
        pytest.skip(reason)
    made: list[Container] = []

    def make(*arguments: Any, **options: Any) -> Container:
        container = Container(f"nri-test-plugin-{os.getpid()}-{next(_numbers)}")
        made.append(container)
        container.create(*arguments, **options)
        return container

    yield make
    for container in made:
        container.delete()


class Container:
    """id: its name. directory: of its bundle and all that is around it. cgroup: its cgroupsPath, if
    none was given. pid: of its first process, which waits until start() is called; 0 before
    create()."""

    def __init__(self, id: str) -> None:
        self.id = id
        # Plugins and configuration must be root's alone, and so must all directories above them.
        self.directory = f"/tmp/{id}"
        self.cgroup = f"/{id}"
        self.pid = 0
        self.config: dict[str, Any] = {}

    def create(
        self,
        annotations: dict[str, str] | None = None,
        resources: dict[str, Any] | None = None,
        cgroups_path: str = "",
        plugin: str = "",
        conf: Any = None,
    ) -> None:
        """See nri_container."""
        os.mkdir(self.directory, 0o755)
        _make_rootfs(f"{self.directory}/rootfs")
        self._runc("spec", "--bundle", self.directory)
        with open(f"{self.directory}/config.json") as file:
            self.config = json.load(file)
        self.config["process"].update(terminal=False, args=list(LOOP))
        self.config["root"] = {"path": "rootfs"}
        self.config["annotations"] = annotations or {}
        self.config["linux"]["cgroupsPath"] = cgroups_path or self.cgroup
        self.config["linux"]["resources"].update(copy.deepcopy(resources or {}))
        with open(f"{self.directory}/config.json", "w") as file:
            json.dump(self.config, file)
        if plugin:
            self._install(plugin, conf)
        self._runc(
            "create", "--bundle", self.directory, "--pid-file", f"{self.directory}/pid", self.id
        )
        with open(f"{self.directory}/pid") as file:
            self.pid = int(file.read())

    def request(self, state: str = State.CREATE, conf: Any = None) -> dict[str, Any]:
        """The payload that a plugin gets for this container as it is now."""
        pid = None if state in (State.SETUP, State.DELETE) else self.pid
        return _with_conf(request_for(Task(self.id, pid, self.config), state), conf)

    def cgroups(self) -> dict[str, str]:
        """Hierarchy -> path of its cgroup, as in /proc/PID/cgroup: "" is v2."""
        return hierarchies.membership(self.pid)

    def read(self, file: str) -> str:
        """The text of a control file of its cgroup, in whichever hierarchy there is such a one."""
        membership = self.cgroups()
        for name, hierarchy in hierarchies.mounted(membership).items():
            path = f"{hierarchy.directory(membership[name])}/{file}"
            if os.path.exists(path):
                with open(path) as control:
                    return control.read().strip()
        raise FileNotFoundError(f"no control file {file} in {membership}")

    def start(self) -> None:
        """Start it: it sleeps until it is deleted."""
        self._runc("start", self.id)

    def exec(self, *words: str) -> str:
        """What a command prints that runs in it; busybox is there."""
        return self._runc("exec", self.id, *words)

    def delete(self) -> None:
        """Delete it; may be repeated. The plugin gets its `delete`."""
        if not os.path.isdir(self.directory):
            return
        self._runc("delete", "--force", self.id, check=False)
        shutil.rmtree(self.directory)
        everywhere = hierarchies.membership(os.getpid())
        for hierarchy in hierarchies.mounted(everywhere).values():
            with contextlib.suppress(HookError):
                directories.remove(hierarchy.mount + self.cgroup, lambda parent: False, 0)

    def _install(self, plugin: str, conf: Any) -> None:
        for name in ("plugins", "conf"):
            os.mkdir(f"{self.directory}/{name}", 0o755)
        copied = plugin_at(f"{self.directory}/plugins/{os.path.basename(plugin)}")
        shutil.copy(plugin, copied.path)
        os.chmod(copied.path, 0o755)
        entry = _with_conf({"type": copied.type}, conf)
        with open(f"{self.directory}/conf/conf.json", "w") as file:
            json.dump({"version": "0.1", "plugins": [entry]}, file)
        words = ["install", "--bundle", self.directory, "--launcher", f"{self.directory}/nri-hook"]
        words += [
            "--conf-dir",
            f"{self.directory}/conf",
            "--plugin-dir",
            f"{self.directory}/plugins",
        ]
        words += ["--state-dir", f"{self.directory}/state"]
        with contextlib.redirect_stdout(sys.stderr):
            if cli.main(words):
                raise RuntimeError(f"nri-hook {' '.join(words)} failed")

    def _runc(self, *words: str, check: bool = True) -> str:
        argv = ["runc", "--root", f"{self.directory}/runc", *words]
        return _call(argv, f"{self.directory}/{words[0]}", check)


def _missing() -> str:
    """What this machine lacks for containers, "" for nothing."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in ("runc", "busybox") if not shutil.which(name)]
    return f"needs {' and '.join(lacking)}" if lacking else ""


def _request(
    state: str = State.CREATE,
    annotations: dict[str, str] | None = None,
    resources: dict[str, Any] | None = None,
    cgroups_path: str = "/default/redis",
    conf: Any = None,
    id: str = "redis",
) -> dict[str, Any]:
    linux = {"resources": resources or {}, "cgroupsPath": cgroups_path}
    task = Task(id, None, {"annotations": annotations or {}, "linux": linux})
    return _with_conf(request_for(task, state), conf)


def _with_conf(document: dict[str, Any], conf: Any) -> dict[str, Any]:
    return document if conf is None else dict(document, conf=conf)


def _invoke(path: str, request: dict[str, Any]) -> Result:
    found = plugin_at(trust.absolute(path))
    stdin = strictjson.dumps(payload.for_plugin(request, request, request.get("results", [])))
    outcome = found.run(stdin, time.monotonic() + SECONDS)
    if outcome.late or outcome.flooded:
        raise HookError("no answer in time, or too large a one", plugin=found.type, path=path)
    sys.stderr.write(outcome.errors.decode("utf-8", "replace"))
    answer = payload.read_result(outcome.output, found.type, request)
    if answer.get("error"):
        raise HookError(f"says: {answer['error']}", plugin=found.type)
    return Result.of(answer)


def _make_rootfs(directory: str) -> None:
    for name in ("bin", "dev", "proc", "sys"):
        os.makedirs(f"{directory}/{name}")
    shutil.copy(shutil.which("busybox") or "busybox", f"{directory}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{directory}/bin/{applet}")


def _call(argv: list[str], out: str, check: bool = True) -> str:
    # Into a file: a container keeps what it was created with, and a pipe would never end.
    with open(out, "wb") as stdout, open(f"{out}.err", "wb") as stderr:
        status = subprocess.call(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    with open(out) as said, open(f"{out}.err") as errors:
        text = said.read()
        if status and check:
            raise RuntimeError(f"{' '.join(argv)}: status {status}\n{text}{errors.read()}")
    return text
