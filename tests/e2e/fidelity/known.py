"""The differences that remain, each with its cause. Any other one fails the test."""

import re

from fidelity.kinds import JOINED


class Difference:
    """field: a pattern for its name. why: the cause. where: whether it is there in a cell. native,
    moved: patterns for the values. varies: why it may be absent, such as on other versions."""

    def __init__(self, field, why, where=lambda cell: True, native=".*", moved=".*", varies=""):
        self.field = field
        self.why = why
        self.applies = where
        self.native = native
        self.moved = moved
        self.varies = varies

    def explains(self, field, native, moved):
        return (
            re.fullmatch(self.field, field) is not None
            and re.fullmatch(self.native, str(native), re.S) is not None
            and re.fullmatch(self.moved, str(moved), re.S) is not None
        )


def is_moved(cell):
    return not cell.left


def is_started(cell):
    return cell.way != "unstarted"


def has_namespace(cell):
    return cell.cgroup_namespace and is_started(cell) and is_moved(cell)


def has_scope(cell):
    return cell.manager == "systemd" and is_moved(cell)


def has_unit(cell):
    return has_scope(cell) and is_started(cell)


def has_view(cell):
    return has_namespace(cell) and cell.kind.sees_own


def is_covered(cell):
    return has_namespace(cell) and not cell.kind.sees_own and cell.kind is not JOINED


def is_untold(cell):
    return cell.way in ("create", "unstarted") and cell.runtime == "crun" and is_moved(cell)


def is_misled(cell):
    return is_untold(cell) and (not has_scope(cell) or not is_started(cell))


def is_renamed(cell):
    return has_unit(cell) and cell.engine


NAMESPACE = (
    "The root of a cgroup namespace is the cgroup in which it was made, before any hook ran, and "
    "nothing can change it. /proc/self/cgroup begins with /.. therefore, and so does the root of "
    "the mount, so that who joins the two finds the right place."
)
ABOVE = r"(/\.\.)+/.*PARENT/.*ID.*"
UNTOLD = (
    "A runtime is told where its container went when it has hooks called after it has written its "
    "own record: runc does at the end of create, crun at start. Until then crun goes by the old "
    "cgroup. An update in that time is carried over at start; under systemd, where the old scope "
    "is gone, crun refuses it."
)
RACE = (
    "runc 1.1 kills the processes of a shared pid namespace and does not wait for their end, so "
    "that now and then it leaves a cgroup which it could not remove yet. Where it was moved, the "
    "poststop hook removes it."
)

DIFFERENCES = [
    Difference(
        "place",
        "A foreground `run` keeps the cgroup in memory by which it ends the processes of a "
        "container whose pid namespace is not its own. It is left where the runtime put it, and "
        "is compared there.",
        lambda cell: cell.in_memory,
        native="as asked",
        moved="left: a foreground .*",
    ),
    Difference(
        "place",
        "A container on v2 that can write to its cgroup mount, or has CAP_SYS_ADMIN to mount one, "
        "is kept from its own limits only in the root of its cgroup namespace. A live move would "
        "take it out of that root. It is left where the runtime put it, and is compared there.",
        lambda cell: cell.could_lift_its_limits,
        native="as asked",
        moved="left: (it may have CAP_SYS_ADMIN|the cgroups at .* are writable for it), .*",
    ),
    Difference(
        "begin",
        "Under systemd no container can join the cgroup namespace of one that was moved: its root, "
        "the old cgroup, is gone with the old scope.",
        lambda cell: cell.kind is JOINED and has_scope(cell),
        native="0",
        moved=".*[Nn]o such file or directory.*",
    ),
    Difference(
        r"inside\./sys/fs/cgroup(/memory)?/memory\.(max|limit_in_bytes)",
        "A container that joins the cgroup namespace of another one sees the limits of that one. "
        "If that one was moved, it sees the old cgroup, with the limits from before any update.",
        lambda cell: cell.kind is JOINED and not has_scope(cell),
        native=r"\d+",
        moved=r"\d+",
        varies="crun, whose update between create and start goes by the old cgroup",
    ),
    Difference(
        "(inside|exec).cgroup .*",
        NAMESPACE,
        has_namespace,
        native=r"/(container)?|(/\.\.)+/libpod-ID",
        moved=ABOVE,
    ),
    # On v1 podman's --systemd=always has that of all cgroups over one of them.
    Difference(
        "inside.root of .*",
        NAMESPACE,
        has_view,
        native=r"/(; (/\.\.)+)?",
        moved=ABOVE + r"(; (/\.\.)+)?",
    ),
    Difference(
        "inside.* joined/.*",
        "If all cgroups of the node are mounted over its own, a program that joins the two finds "
        "the root of all, and in a moved container its own cgroup.",
        is_covered,
    ),
    Difference(
        "created.exec.cgroup .*",
        NAMESPACE,
        lambda cell: cell.way == "unstarted" and cell.runtime == "runc" and not cell.engine,
        native="/",
        moved=ABOVE,
    ),
    Difference("created.(ps .*|exec.*)", UNTOLD, lambda cell: is_untold(cell) and not cell.engine),
    Difference(
        "created.state.systemd-scope",
        UNTOLD,
        lambda cell: is_untold(cell) and has_scope(cell) and not cell.engine,
    ),
    Difference(
        "created.updated",
        UNTOLD,
        lambda cell: is_misled(cell) and not cell.engine,
    ),
    Difference(
        "created.updated",
        "podman before 5.8 has crun do an update, which between create and start goes by the old "
        "cgroup, as it does without podman. It is carried over at start.",
        lambda cell: is_misled(cell) and cell.engine,
        varies="podman",
    ),
    Difference(
        "created.update",
        UNTOLD,
        lambda cell: is_untold(cell) and has_scope(cell) and not is_started(cell),
        varies="podman",
    ),
    Difference(
        "left",
        RACE,
        lambda cell: cell.pids == "shared" and cell.runtime == "runc" and is_moved(cell),
        native=r"\S+ cgroup \S+/(libpod-)?ID",
        moved="nothing",
        varies="a race",
    ),
    Difference(
        "left",
        RACE,
        lambda cell: cell.runtime == "runc" and cell.in_memory,
        native=r"nothing|\S+ cgroup \S+/ID",
        moved=r"nothing|\S+ cgroup \S+/ID",
        varies="a race",
    ),
    Difference(
        "(created.|ended.)?state.cgroup-parent",
        "`podman inspect` repeats here what it was asked for with --cgroup-parent.",
        lambda cell: cell.engine and is_moved(cell),
        native="PARENT",
        moved=".*-start(.slice)?",
    ),
    Difference(
        "((exec.|reload.)?membership.*|(exec|inside).cgroup .*|state.cgroup-path"
        "|unit.(BPFProgram|ControlGroup|FragmentPath|Id|Names))",
        "Two loaded units cannot have one name, so a scope that would have the name of the one it "
        "comes from has -nri- in it.",
        is_renamed,
        native=r".*libpod-ID[._]scope.*",
        moved=r".*libpod-nri-ID[._]scope.*",
    ),
    Difference(
        "inside.mount .*",
        "crun 1.28 takes relatime for nosymfollow where it makes a mount read-only after the "
        "hooks. There are no links in a cgroup that could be followed.",
        lambda cell: is_moved(cell) and cell.runtime == "crun",
        native=".*,nosymfollow.*",
        moved="((?!nosymfollow).)*",
        varies="crun",
    ),
    Difference(
        "ended.state.oom-killed",
        "conmon learns of a kill from memory.events, which systemd removes with the scope: whoever "
        "is first.",
        lambda cell: cell.manager == "systemd" and cell.engine and is_started(cell),
        native="True|False",
        moved="True|False",
        varies="a race",
    ),
    Difference(
        "unit.Description",
        "The scope is ours and says so.",
        has_unit,
        moved="container ID, moved by nri-hook",
    ),
    Difference(
        "unit.CollectMode",
        "A scope of ours that fails does not stay loaded: nobody would know of it.",
        has_unit,
        native="inactive",
        moved="inactive-or-failed",
    ),
    Difference(
        "unit.DropInPaths",
        "runc sets limits one by one after it has started its scope, for which systemd writes "
        "drop-in files; ours is started with them. The limits are the same.",
        lambda cell: has_unit(cell) and cell.runtime == "runc",
    ),
    Difference(
        "unit.NeedDaemonReload",
        "systemd 252 thinks so of a scope with drop-in files.",
        lambda cell: has_unit(cell) and cell.runtime == "runc",
        native="yes",
        moved="no",
        varies="systemd",
    ),
    Difference(
        "unit.IO(Read|Write)(Bandwidth|IOPS)Max",
        "runc writes io.max into the file only. The scope has the limit as a property too, so that "
        "nothing that systemd does takes it back.",
        lambda cell: has_unit(cell) and cell.runtime == "runc",
        native="None",
    ),
]
