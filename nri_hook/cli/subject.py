"""Whom `nri-hook invoke` is about: the Request, and the container behind it if there is one."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from nri_hook import atomicfile, client, procfs, strictjson, trust
from nri_hook.cgroups import hierarchies, paths, plan, preview
from nri_hook.cli import given, state
from nri_hook.errors import HookError, UsageError
from nri_hook.hook import oci, options, payload, pod, record, state_directory
from nri_hook.validation import schema

if TYPE_CHECKING:
    from nri_hook.cgroups.preview import Change
    from nri_hook.hook.record import RecordDocument

# What a plugin is tried with where nothing else is given.
EXAMPLE = {"linux": {"cgroupsPath": "/default/redis", "resources": {}}}


class Subject:
    """request: what all plugins get, without conf and results. recorded: the whole payload of
    --request, {} without. cgroups_path: where it is. pid: of its process, 0 if there is none.
    alive: whether its process is there."""

    def __init__(self, args: argparse.Namespace, chosen: options.Options) -> None:
        """Raises HookError."""
        self.recorded: dict[str, Any] = {}
        self.bundle = oci.Bundle("", EXAMPLE)
        self.pid = 0
        if args.request:
            self.request = self._read(args.request)
        elif args.bundle:
            self.request = self._of_bundle(trust.absolute(args.bundle), args.pid, chosen)
        else:
            task = client.Task("redis", None, EXAMPLE)
            self.request = client.request_for(task, "create")
        self.cgroups_path: str = self.request["spec"].get("cgroupsPath") or ""
        self.alive = self.pid > 0
        self._annotate(args.annotation)
        if args.state:
            self._change_state(args.state)

    def changes(self, answer: str, leave_parent: bool) -> list[Change] | None:
        """What a move to where the answer says would do, None where it is there already. Raises
        Left, Refused or HookError."""
        path = paths.normal(answer, self.cgroups_path)
        if path is None:
            return None
        membership = hierarchies.membership(self.pid)
        found = plan.plan(
            self.pid,
            membership,
            self.cgroups_path,
            path,
            "",
            "",
            leave_parent,
            started=True,
            delegated=paths.delegated(self.bundle.annotations),
        )
        if found is None:
            return None
        try:
            return preview.changes(found, self.bundle)
        except OSError as error:
            raise HookError(f"cannot be looked at: {error.strerror}", path=error.filename) from None

    def _read(self, path: str) -> dict[str, Any]:
        data = given.load(path)
        try:
            document = strictjson.loads(data)
        except strictjson.JSONError as error:
            raise HookError(str(error), path=path) from None
        fault = schema.explain("payload", document)
        if fault:
            raise HookError(fault, path=path)
        self.recorded = document
        without = ["conf", "results"]
        if document.get("pid") == -1:  # as others say that there is no process
            without.append("pid")
        return {key: value for key, value in document.items() if key not in without}

    def _of_bundle(
        self, directory: str, pid: int | None, chosen: options.Options
    ) -> dict[str, Any]:
        path = os.path.join(directory, "config.json")
        data = atomicfile.load(path)
        if data is None:
            raise HookError("does not exist, expected a bundle", path=path)
        self.bundle = oci.Bundle(directory, oci.parse_config(data, path))
        known = _record_of(directory, state.checked(state_directory.place(chosen)))
        id = known.get("id") or os.path.basename(directory)
        self.pid = pid or known.get("pid") or 0
        membership = {}
        if self.pid > 0:
            procfs.Init(self.pid)
            membership = hierarchies.membership(self.pid)
        cgroups_path = known.get("cgroupsPath") or self.bundle.cgroups_path
        cgroups_path = cgroups_path or paths.default_path(id, membership)
        spec = payload.spec(self.bundle, cgroups_path, membership, self.pid or None)
        found = pod.find(id, self.bundle)
        return payload.request("create", id, self.pid or None, spec, found)

    def _annotate(self, pairs: list[str]) -> None:
        annotations = dict(self.request["spec"].get("annotations") or {})
        for pair in pairs:
            key, given, value = pair.partition("=")
            if not given:
                raise UsageError(f"--annotation {pair!r}: expected KEY=VALUE")
            annotations[key] = value
        self.request["spec"] = dict(self.request["spec"], annotations=annotations)

    def _change_state(self, state: str) -> None:
        if state == "delete":
            cgroups = self.request["spec"].get("cgroups") or {}
            self.request = payload.deletion(self.request, self.cgroups_path, cgroups)
        self.request["state"] = state


def _record_of(bundle: str, directory: str) -> RecordDocument:
    """The record in the state directory of the container that lives in a bundle, {} where there is
    none."""
    try:
        names = state_directory.names(directory)
    except OSError:
        return {}
    for name in names:
        try:
            found = record.read(os.path.join(directory, name + state_directory.SUFFIX)) or {}
            if found.get("bundle") == bundle and procfs.is_alive(found["pid"], found["start"]):
                return found
        except (HookError, KeyError, TypeError):  # not a record of ours
            continue
    return {}
