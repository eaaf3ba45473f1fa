"""A node: configuration, plugins, records and the hook as `nri-hook install` sets it up."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile

from nri_hook.hook import record
from support.commands import Done, read
from support.plugin import Plugin, notes
from support.tree import TOP

PROTOTYPE = "/prototype-of-a-node"


class Node:
    """All of it in `directory`: conf_dir, plugin_dir, state_dir, hooks_dir, launcher.

    flags: more for `install`, such as ["--timeout", "2"]. keeps: whether records may be left when
    the test ends.
    """

    def __init__(self, directory, flags=()):
        self.directory = directory
        self.flags = list(flags)
        self.conf_dir = f"{directory}/conf"
        self.plugin_dir = f"{directory}/plugins"
        self.state_dir = f"{directory}/state"
        self.hooks_dir = f"{directory}/hooks.d"
        self.launcher = f"{directory}/nri-hook"
        self.played = f"{directory}/played"
        self.keeps = False
        for path in (directory, self.conf_dir, self.plugin_dir, self.hooks_dir, self.played):
            os.makedirs(path, 0o755)

    def plugin(self, type, script=None, directory=None, hosted=False):
        """A programmable plugin; see Plugin."""
        return Plugin(directory or self.plugin_dir, type, self.played, script, hosted)

    def hosted(self, type, text, directory=None):
        """A Python plugin with this text, for the hook to host; its path."""
        path = os.path.join(directory or self.plugin_dir, f"{type}.py")
        with open(path, "w") as file:
            file.write(text)
        return path

    def executable(self, type, text, directory=None):
        """A plugin with this text, for what the programmable one cannot do; its path."""
        path = os.path.join(directory or self.plugin_dir, type)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
        return path

    def configure(self, *entries, file="conf.json", version="0.1"):
        """Write a configuration: each entry a type, a Plugin, or the object itself; its path."""
        plugins = [_entry(entry) for entry in entries]
        path = f"{self.conf_dir}/{file}"
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(path, "w") as output:
            json.dump({"version": version, "plugins": plugins}, output)
        return path

    def options(self):
        """The flags that this node is installed with."""
        return [
            *("--conf-dir", self.conf_dir),
            *("--plugin-dir", self.plugin_dir),
            *("--state-dir", self.state_dir),
            *self.flags,
        ]

    def install(self, bundle=None):
        """What `nri-hook install` does for a bundle, or without one for hooks_dir.

        It takes half a second, so it runs once per session and set of flags, for a prototype.
        """
        launcher, hook_files = _prototype(tuple(self.flags))
        shutil.copy(launcher, self.launcher)
        files = json.loads(hook_files.replace(PROTOTYPE, self.directory))
        if bundle is None:
            for name, document in files.items():
                with open(f"{self.hooks_dir}/{name}", "w") as file:
                    json.dump(document, file)
            return
        hooks = bundle.config.setdefault("hooks", {})
        for document in files.values():
            (stage,) = document["stages"]
            hooks.setdefault(stage, []).append(document["hook"])
        bundle.save()

    def hook(self, stage, stdin, *flags, prefix=(), **options):
        """Call the launcher for a stage ourselves, with a state as object or as bytes.

        The caller is then no runtime: what moves containers needs one. install() comes first.
        prefix: words before it, such as those of a runtime.
        """
        if not isinstance(stdin, bytes):
            stdin = json.dumps(stdin).encode()
        argv = [*prefix, self.launcher, stage, *self.options(), *flags]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=60, **options)
        out, err = (data.decode(errors="replace") for data in (done.stdout, done.stderr))
        return Done(argv, done.returncode, out, err)

    def records(self):
        """File name -> document of the records that are there."""
        return {
            name: record.read(f"{self.state_dir}/{name}")
            for name in self.left()
            if name.endswith(".json")
        }

    def record(self):
        """The document of the only record."""
        (document,) = self.records().values()
        return document

    def left(self):
        """The names of all files in the state directory but logs, which stay until gc."""
        return [name for name in self._state() if not name.endswith(".log")]

    def logs(self):
        """File name -> invocations, the oldest first, of the logs that are there."""
        return {
            name: [json.loads(line) for line in read(f"{self.state_dir}/{name}").splitlines()]
            for name in self._state()
            if name.endswith(".log")
        }

    def log(self):
        """The invocations in the only log."""
        (invocations,) = self.logs().values()
        return invocations

    def _state(self):
        try:
            return sorted(set(os.listdir(self.state_dir)) - {record.MOVING})
        except FileNotFoundError:
            return []

    def calls(self, id=None):
        """(type, state) of all calls of all programmable plugins, in order; for one container, by
        the id that hooks know, or for all."""
        found = []
        for type in os.listdir(self.played):
            found += notes(f"{self.played}/{type}", "call")
        found.sort(key=lambda call: call["begin"])
        return [
            (call["type"], call["state"])
            for call in found
            if id in (None, call["payload"].get("id"))
        ]


def command(*args, prefix=()):
    """`nri-hook ARGS`, from the tree; what came of it. prefix: words before it."""
    argv = [*prefix, sys.executable, "-m", "nri_hook", *args]
    done = subprocess.run(
        argv,
        cwd="/",
        env={**os.environ, "PYTHONPATH": TOP},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return Done(argv, done.returncode, done.stdout, done.stderr)


@functools.cache
def _prototype(flags):
    """What `install` makes for a node at PROTOTYPE: the launcher's path, the hook files as JSON."""
    directory = tempfile.mkdtemp(prefix="nri-test-prototype-")
    atexit.register(shutil.rmtree, directory)
    node = Node(f"{directory}/node", flags)
    place = ["--launcher", node.launcher, "--hooks-dir", node.hooks_dir]
    command("install", *place, *node.options()).check()
    hook_files = {
        name: json.loads(read(f"{node.hooks_dir}/{name}"))
        for name in sorted(os.listdir(node.hooks_dir))
    }
    return node.launcher, json.dumps(hook_files).replace(node.directory, PROTOTYPE)


def _entry(entry):
    if isinstance(entry, Plugin):
        return {"type": entry.type}
    return {"type": entry} if isinstance(entry, str) else entry
