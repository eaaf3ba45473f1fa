"""konfine: some CPUs stay free of containers. See docs/plugins/konfine.md."""

from nri_hook import skel, strictjson
from nri_hook.cgroups import controlfile, hierarchies
from nri_hook.skel_conf import Conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POSSIBLE = "/sys/devices/system/cpu/possible"
KEY = "systemReserved"
DIGITS = 10
LIST = 'a list of CPUs such as [0, 1] or "0-3,8"'


def invoke(request: skel.Request) -> skel.Result:
    result = request.new_result("konfine")
    if request.state != skel.State.CREATE:
        return result
    reserved = _reserved(Conf(request.conf, (KEY,)))
    named = (request.spec.resources.get("cpu") or {}).get("cpus")
    if named:
        _check(hierarchies.numbers(named), reserved)
        return result
    controls = request.controls()
    # An answer before this one may have left it less than its parent has.
    present = (controls.cpuset_cpus or controls.parent_cpus) & controls.parent_cpus
    rest = present - reserved
    if not rest:
        raise skel.PluginError(
            f"no CPU is left: the container may have {hierarchies.ranges(present)}, "
            f"reserved are {hierarchies.ranges(reserved)}"
        )
    if rest != controls.cpuset_cpus:
        controls.cpuset_cpus = rest
    result.metadata["cpuset.cpus"] = hierarchies.ranges(rest)
    return result


def _check(named: "set[int]", reserved: "set[int]") -> None:
    both = named & reserved
    if both:
        raise skel.PluginError(
            f"the container names the CPUs {hierarchies.ranges(named)}, "
            f"of which {hierarchies.ranges(both)} are reserved"
        )


def _reserved(conf: Conf) -> "set[int]":
    value = conf.values.get(KEY)
    possible = hierarchies.numbers(controlfile.read(POSSIBLE))
    found = _numbers(value, max(possible))
    if not found:
        raise conf.wrong(KEY, LIST)
    if not found <= possible:
        raise conf.wrong(KEY, f"CPUs of this machine, {hierarchies.ranges(possible)}")
    return found


def _numbers(value: "Any", largest: int) -> "set[int]":
    """The CPUs of a list in one of both forms, empty where it is none. largest: that is there; of
    what is above it one is enough."""
    if type(value) is list:
        good = all(item is not None and strictjson.is_integer(item, 0) for item in value)
        return {int(item) for item in value} if good else set()
    found: "set[int]" = set()
    for part in value.split(",") if type(value) is str else []:
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < DIGITS for end in ends):
            return set()
        begin, end = map(int, ends)
        if begin > end:
            return set()
        found.update(range(begin, min(end, largest + 1) + 1) or [begin])
    return found


if __name__ == "__main__":
    skel.run(invoke, "konfine")
