"""What makes an engine or a runtime call us: hook files, and the hooks of a bundle's config.json.

A hook file is JSON of the form 1.0.0 in oci-hooks(5), one per stage since it has one `args` for
all its stages. The `hook` in it is what runtime-spec (config.md, "POSIX-platform Hooks") puts
into config.json, so both come from entry().
"""

from __future__ import annotations

import json
import math
from typing import Any

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook.options import MARGIN, Options
from nri_hook.registration import goregex

# The stages that `install` registers.
STAGES = ("createRuntime", "poststart", "poststop")
# With podman's own: any other engine takes a file with that stage for an error.
PODMAN_STAGES = ("precreate", *STAGES)

NAME = "nri-hook"
PREFIX = "90-nri-hook-"
SUFFIX = ".json"

# Without `env` an engine passes its whole environment, or, as podman does for its own stages, none.
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def file_name(stage: str) -> str:
    """The name of the hook file of `stage`."""
    return PREFIX + stage + SUFFIX


def entry(stage: str, launcher: str, options: Options) -> dict[str, Any]:
    """The hook that calls the launcher for `stage`."""
    return {
        "path": launcher,
        "args": [NAME, stage, *options.flags()],
        "env": list(ENVIRONMENT),
        "timeout": math.ceil(options.timeout + MARGIN),
    }


def render(
    stage: str, launcher: str, options: Options, annotations: dict[str, str] | None = None
) -> bytes:
    """The hook file of `stage`: for every container, or for those only that have, for each of
    these keys, an annotation of this name whose whole value matches the regular expression."""
    when: dict[str, Any] = {"always": True}
    if annotations:
        # The engines take the keys for expressions too, and search for both anywhere in the text.
        wanted = {goregex.literally(k): goregex.wholly(v) for k, v in annotations.items()}
        when = {"annotations": wanted}
    document = {
        "version": "1.0.0",
        "hook": entry(stage, launcher, options),
        "when": when,
        "stages": [stage],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def launcher_of(data: bytes) -> str | None:
    """What the hook file `data` calls, or None where it is no hook file."""
    hook = _hook_of(data)
    path = hook.get("path") if isinstance(hook, dict) else None
    return path if isinstance(path, str) else None


def calls_us(data: bytes) -> bool:
    """Whether this is a hook file that calls nri-hook, by whatever launcher."""
    return is_nri_hook(_hook_of(data))


def _hook_of(data: bytes) -> Any:
    try:
        document = strictjson.loads(data)
    except strictjson.JSONError:
        return None
    return document.get("hook") if isinstance(document, dict) else None


class BundleConfig:
    """A config.json whose hooks are to be changed; all else in it stays as it is.

    data: the file. path: its name, for messages. Raises HookError.
    """

    def __init__(self, data: bytes, path: str) -> None:
        try:
            self.document = strictjson.loads(data)
        except strictjson.JSONError as error:
            raise HookError(str(error), path=path) from None
        self.end = "\n" if data.endswith(b"\n") else ""
        if not isinstance(self.document, dict):
            raise HookError("expected a JSON object", path=path)
        # The runtimes, in Go and C, take null for absent.
        hooks = self.document.get("hooks")
        hooks = {} if hooks is None else hooks
        if not isinstance(hooks, dict):
            raise HookError("/hooks: expected an object", path=path)
        for stage, entries in hooks.items():
            if entries is not None and not isinstance(entries, list):
                raise HookError(f"/hooks/{stage}: expected an array", path=path)
        self.hooks: dict[str, list[Any] | None] = hooks

    def add(self, stage: str, ours: dict[str, Any]) -> None:
        """Put our entry where it was, else after the hooks that are there."""
        launcher = ours["path"]
        before = self.hooks.get(stage) or []
        places = [i for i, hook in enumerate(before) if is_ours(hook, launcher)]
        place = places[0] if places else len(before)
        after = [hook for hook in before[place:] if not is_ours(hook, launcher)]
        self.hooks[stage] = [*before[:place], ours, *after]
        self.document["hooks"] = self.hooks

    def remove(self, launcher: str) -> bool:
        """Take our entries out of all stages, with the lists that this empties; whether any was."""
        found = False
        for stage, entries in list(self.hooks.items()):
            rest = [hook for hook in entries or [] if not is_ours(hook, launcher)]
            if len(rest) == len(entries or []):
                continue
            found = True
            if rest:
                self.hooks[stage] = rest
            else:
                del self.hooks[stage]
        if found and not self.hooks:
            del self.document["hooks"]
        return found

    def other_launchers(self, launcher: str) -> list[tuple[str, str]]:
        """(stage, path) of each nri-hook entry that has another launcher."""
        return [
            (stage, str(hook.get("path")))
            for stage, entries in self.hooks.items()
            for hook in entries or []
            if is_nri_hook(hook) and hook.get("path") != launcher
        ]

    def render(self) -> bytes:
        """The file, laid out as `runc spec` does it."""
        text = json.dumps(self.document, indent="\t", ensure_ascii=False) + self.end
        # Half of a surrogate pair is JSON only as an escape, which is what backslashreplace writes.
        return text.encode("utf-8", "backslashreplace")


def is_ours(hook: Any, launcher: str) -> bool:
    """Whether an entry of a config.json is ours, with this launcher."""
    return is_nri_hook(hook) and bool(hook.get("path") == launcher)


def is_nri_hook(hook: Any) -> bool:
    """Whether an entry of a config.json, or the `hook` of a hook file, calls nri-hook."""
    args = hook.get("args") if isinstance(hook, dict) else None
    return isinstance(args, list) and args[:1] == [NAME]
