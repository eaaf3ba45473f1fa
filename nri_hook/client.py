"""For those who call plugins: the chain of the host configuration, as the Go package's Client.

    from nri_hook.client import Client, Task

    client = Client()
    results = client.invoke(Task("redis", pid, config), State.CREATE)

The hook runs its plugins through the same chain. It moves containers too; a client's caller does
with the answers what it likes.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Optional

from nri_hook import strictjson
from nri_hook.cgroups import hierarchies, paths
from nri_hook.errors import HookError
from nri_hook.hook import host_config, oci, payload
from nri_hook.hook.chain import Chain
from nri_hook.hook.options import Options
from nri_hook.hook.pod import Sandbox
from nri_hook.skel import Result, State

_DEFAULT = Options()

__all__ = ["Client", "HookError", "Result", "Sandbox", "State", "Task", "request_for"]


class Task:
    """A container. id: its name. pid: of its first process, None if there is none. config: its
    config.json, decoded (runtime-spec, config.md)."""

    def __init__(self, id: str, pid: "Optional[int]", config: "dict[str, Any]") -> None:
        """pid: 0 and below are none too. Raises HookError where it is no config."""
        self.id = id
        self.pid = pid if pid and pid > 0 else None
        self.bundle = oci.Bundle("", oci.check_config(config, "config"))


class Client:
    """The plugins of a host configuration, read when it is made.

    conf_dir, plugin_dirs: as the hook's flags, the package's own plugins come last. timeout:
    seconds for the whole chain. A plugin runs as under the hook; until it has ended this process
    has another working directory and umask, and hosted plugins are forked from it, so that a
    program of several threads is better off with a process for this.
    """

    def __init__(
        self,
        conf_dir: str = _DEFAULT.conf_dir,
        plugin_dirs: "tuple[str, ...]" = _DEFAULT.plugin_dirs,
        timeout: float = _DEFAULT.timeout,
    ) -> None:
        """Raises HookError where the configuration is wrong."""
        self._directories = Options(plugin_dirs=plugin_dirs).plugin_path()
        self._entries = host_config.load(conf_dir)
        self._timeout = timeout

    def plugins(self) -> "list[str]":
        """The types of the plugins, in order."""
        return [entry.type for entry in self._entries]

    def invoke(self, task: Task, state: str) -> "list[Result]":
        """Call every plugin for a container outside any pod; their answers, in the order of calls.

        state: one of State; State.DELETE calls them in reverse, and all of them. Raises HookError
        at the first failure, of which `plugin` says whose it is; those that were called for a
        setup or a create then get `delete`.
        """
        return self._invoke(task, state, None)

    def invoke_with_sandbox(self, task: Task, state: str, sandbox: Sandbox) -> "list[Result]":
        """The same for a container of a pod, or with the id of the task for the pod's sandbox."""
        return self._invoke(task, state, sandbox)

    def _invoke(self, task: Task, state: str, sandbox: "Optional[Sandbox]") -> "list[Result]":
        if state not in payload.STATES:
            raise HookError(f"state {state!r}: expected one of {', '.join(payload.STATES)}")
        request = _as_json(request_for(task, state, sandbox))
        chain = Chain(self._entries, self._directories)
        with _from_the_root():
            call = self._delete if state == State.DELETE else self._call
            answers = call(chain, request)
        return [Result.of(answer) for answer in answers]

    def _call(self, chain: Chain, request: "dict[str, Any]") -> "list[dict[str, Any]]":
        try:
            chain.invoke(request, time.monotonic() + self._timeout, lambda: None)
        except HookError:
            if request["state"] in (State.SETUP, State.CREATE):
                spec = request["spec"]
                gone = payload.deletion(request, spec["cgroupsPath"], spec["cgroups"])
                end = time.monotonic() + self._timeout
                chain.delete(gone, chain.called, chain.results, end)
            raise
        return chain.results

    def _delete(self, chain: Chain, request: "dict[str, Any]") -> "list[dict[str, Any]]":
        everyone = list(range(len(self._entries)))
        end = time.monotonic() + self._timeout
        answers, errors = chain.delete(request, everyone, [], end)
        if errors:
            raise errors[0]
        return answers


def request_for(task: Task, state: str, sandbox: "Optional[Sandbox]" = None) -> "dict[str, Any]":
    """The payload for a task, as JSON has it, without `conf` and `results`. Raises HookError."""
    membership = hierarchies.membership(task.pid) if task.pid else {}
    path = task.bundle.cgroups_path or paths.default_path(task.id, membership)
    spec = payload.spec(task.bundle, path, membership, task.pid)
    return payload.request(state, task.id, task.pid, spec, sandbox)


def _as_json(request: "dict[str, Any]") -> "dict[str, Any]":
    """A request as plugins read it, whatever objects its caller has built it of."""
    try:
        document: "dict[str, Any]" = strictjson.loads(strictjson.dumps(request))
    except (TypeError, ValueError) as error:
        raise HookError(f"the task has no JSON form: {error}") from None
    return document


@contextlib.contextmanager
def _from_the_root() -> "Iterator[None]":
    """Plugins start in the directory /, which only their parent can see to."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)
