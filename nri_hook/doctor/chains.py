"""The host configuration and its plugins, and whether each has the time that it was given."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from nri_hook import atomicfile
from nri_hook.doctor import owners
from nri_hook.doctor.calls import Call
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.errors import HookError
from nri_hook.hook import host_config, options, plugin
from nri_hook.hook.options import Options
from nri_hook.validation import documents

# CRI-O gives a create so long, hooks and all (cri-o, pkg/config, the default).
CRIO_SECONDS = 240
# Seconds that a fix gives beyond what is the least.
MORE = 5


class Chain:
    """A chain as the hook would load it. directories: of plugins. entries: none where the
    configuration cannot be read; files: of plugins that can be run, both once check() has run."""

    def __init__(self, chosen: Options, package: str) -> None:
        """package: the directory of the nri_hook that the launcher runs, "" for our own."""
        self.options = chosen
        self.directories = chosen.plugin_path()
        if package:
            self.directories[-1] = os.path.join(package, "plugins")
        self.entries: list[host_config.Entry] = []
        self.files: list[str] = []

    def check(self) -> Iterator[Finding]:
        """Configuration, then the plugins."""
        yield from self._configuration()
        for type in dict.fromkeys(entry.type for entry in self.entries):
            yield self._plugin(type)

    def _configuration(self) -> Iterator[Finding]:
        directory = self.options.conf_dir
        try:
            paths = host_config.paths(directory)
        except HookError as error:
            yield Finding(FAIL, "configuration", str(error), f"ls -ld {shlex.quote(directory)}")
            return
        if not paths:
            places = f"neither {directory}/resource.d/*.conf nor {directory}/conf.json"
            what = f"{places}: no plugin is called"
            line = '{"version": "0.1", "plugins": [{"type": "NAME"}]}'
            yield Finding(WARN, "configuration", what, f"write {line} into {directory}/conf.json")
        wrong = 0
        for path in paths:
            for finding in _file(path, self.directories):
                wrong += finding.level == FAIL
                yield finding
        if wrong:
            return
        try:
            self.entries = host_config.load(directory)
        except HookError as error:
            fix = f"nri-hook validate {shlex.quote(error.path)}"
            yield Finding(FAIL, "configuration", str(error), fix)
            return
        for path in paths:
            yield Finding(OK, "configuration", path)
        yield from self._guarantees()

    def _guarantees(self) -> Iterator[Finding]:
        """Entries that ask for a guarantee, and take it back."""
        for entry in self.entries:
            if entry.must_place and entry.ignore:
                what = (
                    f'plugin {entry.type}: "onLeft": "fail" with "onError": "ignore": '
                    "if the plugin fails, the container starts where it is"
                )
                fix = f'"onError": "fail" for {entry.type} in {self.options.conf_dir}'
                yield Finding(WARN, "configuration", what, fix)

    def _plugin(self, type: str) -> Finding:
        try:
            found = plugin.find(type, self.directories)
        except HookError as error:
            return Finding(FAIL, "plugin", str(error), self._fix(type, error.path))
        self.files.append(found.path)
        kind = "hosted Python" if found.hosted else "executable"
        return Finding(OK, "plugin", f"{type}: {found.path}, {kind}")

    def _fix(self, type: str, path: str) -> str:
        if not path:
            first = shlex.quote(os.path.join(self.directories[0], type))
            entry = f'take {{"type": "{type}"}} out of {self.options.conf_dir}'
            return f"install -m 0755 FILE {first}, or {entry}"
        if owners.judge(path):
            return owners.fix(path)
        if os.path.isfile(path):
            return f"chmod 0755 {shlex.quote(path)}"
        return f"rm {shlex.quote(path)}, and put an executable in its place"


def timeouts(
    chosen: Options, entries: list[host_config.Entry], calls: list[Call], install: str
) -> Iterator[Finding]:
    """Each has to end before what is around it: plugin, chain, hook file.

    install: the command that registers these calls anew.
    """
    wrong = []
    for entry in entries:
        if entry.timeout is not None and entry.timeout >= chosen.timeout:
            wrong.append(
                Finding(
                    FAIL,
                    "timeouts",
                    f"plugin {entry.type} is given {entry.timeout:g} s, and the whole chain is "
                    f"killed after {chosen.timeout:g} s",
                    f'"timeout" below {chosen.timeout:g} for {entry.type} in {chosen.conf_dir}, or '
                    f"{install} --timeout {entry.timeout + MORE:g}",
                )
            )
    total = sum(entry.timeout or 0 for entry in entries)
    if total > chosen.timeout and not wrong:
        wrong.append(
            Finding(
                WARN,
                "timeouts",
                f"the plugins are given {total:g} s together, and the chain {chosen.timeout:g} s",
                f"{install} --timeout {total + MORE:g}",
            )
        )
    for call in calls:
        finding = _hook_timeout(call, chosen, install)
        wrong += [finding] if finding else []
    yield from wrong
    if not wrong:
        yield Finding(OK, "timeouts", f"plugins below the chain's {chosen.timeout:g} s")


def _hook_timeout(call: Call, chosen: Options, install: str) -> Finding | None:
    given = call.hook.get("timeout")
    needed = chosen.timeout + options.MARGIN
    if not isinstance(given, (int, float)):
        what = f"{call.where}: has no timeout: a hook that hangs is never killed"
        return Finding(WARN, "timeouts", what, install)
    if given >= needed:
        return None
    what = (
        f"{call.where}: the hook is killed after {given} s, with {chosen.timeout:g} s for the "
        f"chain and {options.MARGIN} s for the undo"
    )
    level = FAIL if given <= chosen.timeout else WARN
    return Finding(level, "timeouts", what, f"{install} --timeout {chosen.timeout:g}")


def below_crio(calls: list[Call], install: str) -> Iterator[Finding]:
    """Whether the hooks that CRI-O calls end before CRI-O itself gives up."""
    for call in calls:
        given = call.hook.get("timeout") or 0
        if given >= CRIO_SECONDS:
            what = f"{call.where}: the hook has {given} s, and CRI-O gives up after {CRIO_SECONDS}"
            fix = f"{install} --timeout {CRIO_SECONDS - options.MARGIN - MORE}"
            yield Finding(FAIL, "timeouts", what, fix)


def _file(path: str, directories: list[str]) -> Iterator[Finding]:
    """What is wrong with one file of the configuration. A stranger's, which the hook does not read,
    is not looked into: it may have any number of errors."""
    unsafe = owners.judge(path)
    if unsafe:
        yield Finding(FAIL, "configuration", unsafe.what, unsafe.fix)
        return
    fix = f"fix it, then nri-hook validate {shlex.quote(path)}"
    try:
        data = atomicfile.load(path, host_config.MAX_SIZE)
        if data is None:
            return  # it has gone meanwhile
        checked = documents.check(path, data, documents.CONFIGURATION, directories)
    except HookError as error:
        yield Finding(FAIL, "configuration", str(error), fix)
        return
    for fault in checked.faults:
        yield Finding(FAIL, "configuration", f"{path}: {fault}", fix)
    for note in checked.odd_keys:
        respell = f"spell the key as it should be, or remove it, in {shlex.quote(path)}"
        yield Finding(WARN, "configuration", f"{path}: {note}", respell)
