"""The I/O controls of a cgroup; see group.py.

Source: kernel, admin-guide/cgroup-v2.rst ("IO"), cgroup-v1/blkio-controller.rst, bfq-iosched.rst.
"""

from nri_hook.cgroups.controls import weights
from nri_hook.cgroups.controls.home import Home, Homes
from nri_hook.errors import ControlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Scale = tuple[str, Callable[[int], int], Callable[[int], int]]

# Version -> (file, weight from its text, text for a weight), one for each scheduler.
IO_WEIGHTS: "dict[int, tuple[Scale, ...]]" = {
    1: (
        ("blkio.weight", weights.from_blkio, weights.to_blkio),
        ("blkio.bfq.weight", weights.from_bfq, weights.to_bfq),
    ),
    2: (("io.weight", int, int), ("io.bfq.weight", weights.from_bfq, weights.to_bfq)),
}
# Key of io.max -> file of v1.
THROTTLE = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


class Disks(Homes):
    """The I/O controls."""

    __slots__ = ()

    @property
    def io_weight(self) -> int:
        """1 to 10000, 100 by default; for all devices that have none of their own."""
        home, files = self._io_weights()
        file, convert, _ = files[0]
        return convert(int(home.read("io_weight", file).split()[-1 if home.version == 1 else 1]))

    @io_weight.setter
    def io_weight(self, value: int) -> None:
        home, files = self._io_weights()
        check_weight("io_weight", home, value)
        word = "" if home.version == 1 else "default "
        settings = {file: f"{word}{convert(value)}" for file, _, convert in files}
        self._write("io_weight", home, settings)

    @property
    def io_max(self) -> "dict[str, dict[str, int]]":
        """Device, as "8:0" -> its limits, of rbps and wbps (bytes per second), riops and wiops
        (operations per second). What is not in it has no limit; so it is when it is set."""
        home = self._home("io_max", "blkio")
        found: "dict[str, dict[str, int]]" = {}
        if home.version == 2:
            for line in home.read("io_max", "io.max").splitlines():
                device, *pairs = line.split()
                items = (pair.split("=") for pair in pairs)
                found[device] = {key: int(value) for key, value in items if value != "max"}
        else:
            for key, file in THROTTLE.items():
                for line in home.read("io_max", file).splitlines():
                    device, value = line.split()
                    found.setdefault(device, {})[key] = int(value)
        return found

    @io_max.setter
    def io_max(self, value: "dict[str, dict[str, int]]") -> None:
        home = self._home("io_max", "blkio")
        devices = {**dict.fromkeys(self.io_max, {}), **value}
        unknown = {key for limits in value.values() for key in limits} - set(THROTTLE)
        if unknown:
            raise ControlError(f"io_max: unknown {min(unknown)!r}, expected {', '.join(THROTTLE)}")
        settings: "dict[str, list[str]]" = {}
        for device, wanted in devices.items():
            if home.version == 2:
                words = [f"{key}={wanted.get(key, 'max')}" for key in THROTTLE]
                settings.setdefault("io.max", []).append(" ".join([device, *words]))
            else:
                for key, file in THROTTLE.items():
                    settings.setdefault(file, []).append(f"{device} {wanted.get(key, 0)}")
        self._write("io_max", home, {file: "\n".join(lines) for file, lines in settings.items()})

    def _io_weights(self) -> "tuple[Home, list[Scale]]":
        home = self._home("io_weight", "blkio")
        files = [entry for entry in IO_WEIGHTS[home.version] if home.has(entry[0])]
        if not files:
            raise home.lacks("io_weight", IO_WEIGHTS[home.version][0][0])
        return home, files


def check_weight(control: str, home: "Home", value: int) -> None:
    """Raise ControlError where `value` is no weight."""
    if not weights.LEAST <= value <= weights.MOST:
        expected = f"{weights.LEAST} to {weights.MOST}"
        raise ControlError(f"{control}: {value} is none, expected {expected}", path=home.directory)
