"""The flags of every stage, which `install` bakes into the hook files."""

import os

from nri_hook import trust
from nri_hook.errors import UsageError

# What the hook file's own timeout adds to the chain's: time to undo and to send `delete`.
MARGIN = 10

VALUES = ("--conf-dir", "--plugin-dir", "--state-dir", "--timeout")


class Options:
    """Where things lie, and how long the chain may take.

    conf_dir: directory of resource.d/*.conf or conf.json. plugin_dirs: searched in order.
    state_dir: directory of the records. timeout: seconds for the whole chain.
    """

    def __init__(
        self,
        conf_dir: str = "/etc/nri",
        plugin_dirs: "tuple[str, ...]" = ("/opt/nri/bin",),
        state_dir: str = "/run/nri-hook",
        timeout: float = 30.0,
    ) -> None:
        self.conf_dir = conf_dir
        self.plugin_dirs = plugin_dirs
        self.state_dir = state_dir
        self.timeout = timeout

    def plugin_path(self) -> "list[str]":
        """Where plugins are looked for, in order; last those that come with the package."""
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        return [*self.plugin_dirs, os.path.join(package, "plugins")]

    def flags(self) -> "list[str]":
        """The arguments that make these options out of the defaults."""
        default = Options()
        flags = []
        if self.conf_dir != default.conf_dir:
            flags += ["--conf-dir", self.conf_dir]
        if self.plugin_dirs != default.plugin_dirs:
            for directory in self.plugin_dirs:
                flags += ["--plugin-dir", directory]
        if self.state_dir != default.state_dir:
            flags += ["--state-dir", self.state_dir]
        if self.timeout != default.timeout:
            # As short as it can be said exactly: 5, not 5.0.
            short = f"{self.timeout:g}"
            exact = short if float(short) == self.timeout else repr(self.timeout)
            flags += ["--timeout", exact]
        return flags


def parse(args: "list[str]") -> Options:
    """Read the flags of a stage, as `--flag VALUE` or `--flag=VALUE`. Raises UsageError."""
    found: "dict[str, list[str]]" = {flag: [] for flag in VALUES}
    rest = list(args)
    while rest:
        flag, given, value = rest.pop(0).partition("=")
        if flag not in found:
            raise UsageError(f"unknown argument {flag!r}, expected one of {', '.join(VALUES)}")
        if not given:
            if not rest:
                raise UsageError(f"{flag} needs a value")
            value = rest.pop(0)
        found[flag].append(value)
    options = Options()
    for value in found["--conf-dir"]:
        options.conf_dir = _directory("--conf-dir", value)
    if found["--plugin-dir"]:
        options.plugin_dirs = tuple(_directory("--plugin-dir", v) for v in found["--plugin-dir"])
    for value in found["--state-dir"]:
        options.state_dir = _directory("--state-dir", value)
    for value in found["--timeout"]:
        options.timeout = seconds(value)
    return options


def seconds(value: str) -> float:
    """A time of more than nothing and at most a day. Raises UsageError."""
    try:
        timeout = float(value)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout <= 86400:
        raise UsageError(f"--timeout {value!r}: expected seconds, more than 0 and at most 86400")
    return timeout


def _directory(flag: str, value: str) -> str:
    if not os.path.isabs(value):
        raise UsageError(f"{flag} {value!r}: expected an absolute path")
    return trust.absolute(value)
