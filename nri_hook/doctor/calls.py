"""What makes an engine or a runtime call us: the stages, the flags, the timeouts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.errors import UsageError
from nri_hook.hook import options
from nri_hook.hook.options import Options
from nri_hook.registration import engines, hookfile, launcher

CHECK = "registration"


class Call(NamedTuple):
    """One hook of ours. where: a hook file, or a place in a config.json. stages: those that it is
    registered for. hook: path, args, env, timeout, as the runtime specification has them. when: its
    conditions, as oci-hooks(5) has them. trusted: whether only root can have written it."""

    where: str
    stages: list[str]
    hook: dict[str, Any]
    when: dict[str, Any]
    trusted: bool

    @property
    def launcher(self) -> str:
        """The executable that is called."""
        return str(self.hook.get("path") or "")

    @property
    def words(self) -> list[str]:
        """The flags that the stage is called with."""
        return [str(word) for word in (self.hook.get("args") or [])[2:]]

    def options(self) -> Options:
        """The flags, read. Raises UsageError."""
        return options.parse(self.words)

    def is_readable(self) -> bool:
        """Whether these are flags of a stage."""
        try:
            self.options()
        except UsageError:
            return False
        return True


def of_bundle(config: hookfile.BundleConfig, path: str, trusted: bool) -> list[Call]:
    """The hooks of ours in the config.json at `path`."""
    return [
        Call(f"{path}: /hooks/{stage}/{n}", [stage], hook, {"always": True}, trusted)
        for stage, hooks in config.hooks.items()
        for n, hook in enumerate(hooks or [])
        if hookfile.is_nri_hook(hook)
    ]


def command(calls: list[Call], bundle: str = "") -> str:
    """The command that makes these hooks anew, with the flags of the first that can be read, and
    that no stranger has written. bundle: its directory, if they are of one."""
    words = [hookfile.NAME, "install"]
    directories = {os.path.dirname(call.where) for call in calls}
    if bundle:
        words += ["--bundle", bundle]
    elif engines.PODMAN_DIR in directories:
        words += ["--engine", "podman"]
    elif engines.HOOKS_DIR not in directories and len(directories) == 1:
        words += ["--hooks-dir", *directories]
    known = [call for call in calls if call.trusted]
    path = known[0].launcher if known else launcher.DEFAULT
    if path != launcher.DEFAULT:
        words += ["--launcher", path]
    readable = [call.words for call in known if call.is_readable()]
    if known and not readable:
        return f"{shlex.join(words)}, with the flags that it had"
    return shlex.join(words + (readable[0] if known else []))


def check(caller: str, calls: list[Call], fix: str) -> Iterator[Finding]:
    """Whether these hooks of one caller (an engine or a bundle) are a whole.

    fix: the command that makes them anew.
    """
    for call in calls:
        yield from _one(call, fix)
    stages = [stage for call in calls for stage in call.stages]
    for stage in hookfile.STAGES:
        if stage not in stages:
            yield Finding(FAIL, CHECK, f"{caller} does not call nri-hook for {stage}", fix)
    for stage in sorted(set(stages)):
        places = [call.where for call in calls if stage in call.stages]
        if len(places) > 1:
            where = " and ".join(places)
            yield Finding(FAIL, CHECK, f"{caller} calls it twice for {stage}: {where}", fix)
    for what, values in (
        ("flags", {tuple(call.words) for call in calls}),
        ("launchers", {call.launcher for call in calls}),
        ("conditions (when)", {str(sorted(call.when.items())) for call in calls}),
    ):
        if len(values) > 1:
            yield Finding(
                FAIL,
                CHECK,
                f"{caller}: the stages have different {what}, so poststop does not undo what "
                "createRuntime did",
                fix,
            )
    if set(hookfile.STAGES) <= set(stages):
        yield Finding(OK, CHECK, f"{caller} calls nri-hook for {', '.join(stages)}")


def _one(call: Call, fix: str) -> Iterator[Finding]:
    args = call.hook.get("args") or []
    stage = args[1] if len(args) > 1 else ""
    if call.stages != [stage]:
        said = ", ".join(call.stages) or "no stage"
        yield Finding(
            FAIL,
            CHECK,
            f"{call.where}: registered for {said}, and called as {stage or 'none'}",
            fix,
        )
    try:
        call.options()
    except UsageError as error:
        yield Finding(FAIL, CHECK, f"{call.where}: its flags: {error}", fix)
    if not os.path.isabs(call.launcher):
        yield Finding(FAIL, CHECK, f"{call.where}: {call.launcher!r} is not an absolute path", fix)
    env = call.hook.get("env")
    if not isinstance(env, list) or not any(str(word).startswith("PATH=") for word in env):
        yield Finding(WARN, CHECK, f"{call.where}: its env has no PATH", fix)
