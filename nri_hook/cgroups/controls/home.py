"""A cgroup as somebody sees it who sets its controls: in one hierarchy, and in all."""

import os

from nri_hook.cgroups import controlfile, hierarchies
from nri_hook.errors import ControlError, NoControl


class Home:
    """directories: those that get every setting alike: the one that is read last, under systemd the
    unit's own first (crun puts init into <scope>/container). unit: the name of the unit whose
    properties are set too, since systemd writes them again at a daemon-reload; "" for none.
    version: 1 or 2.
    """

    def __init__(self, hierarchy: str, directories: "list[str]", unit: str = "") -> None:
        self.version = 2 if hierarchy == hierarchies.V2 else 1
        self.directories = directories
        self.directory = directories[-1]
        self.unit = unit

    def parent(self) -> str:
        """The directory above all of them."""
        return os.path.dirname(self.directories[0])

    def has(self, file: str) -> bool:
        return os.path.exists(f"{self.directory}/{file}")

    def read(self, control: str, file: str) -> str:
        """The text of a control file. control: what it is for, for the error. Raises
        ControlError."""
        path = f"{self.directory}/{file}"
        try:
            return controlfile.read(path).strip()
        except FileNotFoundError:
            raise self.lacks(control, file) from None
        except OSError as error:
            raise ControlError(f"{control}: cannot be read: {error.strerror}", path=path) from None

    def write(self, control: str, settings: "dict[str, str]") -> None:
        """Write control files, in this order and line by line. Raises ControlError, Refused."""
        for file in settings:
            if not self.has(file):
                raise self.lacks(control, file)
        for directory in self.directories:
            for file, text in settings.items():
                _write(control, f"{directory}/{file}", text)
        if self.unit:  # last: a unit would keep what the kernel has refused
            from nri_hook.cgroups import systemd, unit_properties

            wanted = unit_properties.of(settings)
            if wanted:
                systemd.set_properties(self.unit, wanted)

    def lacks(self, control: str, file: str) -> ControlError:
        """The error for a file that is not there."""
        if not os.path.isdir(self.directory):
            return ControlError(f"{control}: the cgroup has gone", path=self.directory)
        return NoControl(f"{control}: there is no {file}", path=self.directory)


class Homes:
    """A cgroup in all its hierarchies."""

    __slots__ = ("_homes",)

    def __init__(self, homes: "dict[str, Home]") -> None:
        """homes: by the name of their hierarchy."""
        self._homes = homes

    def _home(self, control: str, controller: str) -> Home:
        """Where `controller`, as v1 names it, is. Raises NoControl."""
        for name, home in self._homes.items():
            if controller in name.split(","):
                return home
        if hierarchies.V2 in self._homes:
            return self._homes[hierarchies.V2]
        where = ", ".join(home.directory for home in self._homes.values())
        raise NoControl(f"{control}: none of its own cgroups has {controller}: {where}")

    def _write(self, control: str, home: Home, settings: "dict[str, str]") -> None:
        self._check()
        home.write(control, settings)

    def _check(self) -> None:
        """Raise HookError where nothing may be written any more."""


def _write(control: str, path: str, text: str) -> None:
    for line in text.splitlines() or [""]:
        try:
            controlfile.write(path, line + "\n")
        except OSError as error:
            raise ControlError(
                f"{control}: cannot take {line!r}: {error.strerror}", path=path
            ) from None
