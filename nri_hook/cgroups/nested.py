"""A cgroup with those in it, however deep: a container that has its cgroups to itself may nest more
of them than Python can recurse into, and than a path can name. So the way down and up again is from
one open directory to the next."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(directory: str) -> "Iterator[int]":
    """A descriptor of the cgroup `directory`, then of each below it, each as long as the next one
    is not asked for. Raises OSError."""
    here = os.open(directory, FLAGS)
    waiting: "list[list[str]]" = []  # names, for each cgroup from the first one down to here
    try:
        while True:
            yield here
            waiting.append(_inside(here))
            entered = False
            while not entered:
                if waiting[-1]:
                    try:
                        here = _step(here, waiting[-1].pop())
                        entered = True
                    except FileNotFoundError:  # it has gone
                        pass
                    continue
                waiting.pop()
                if not waiting:
                    return
                here = _step(here, "..")
    finally:
        os.close(here)


def remove(directory: str) -> None:
    """Remove the cgroup `directory` with all empty cgroups in it. Raises OSError, with the first
    that is in use still there."""
    here = os.open(directory, FLAGS)
    names: "list[str]" = []  # of those from below the first one down to here
    try:
        while True:
            inside = _inside(here)
            try:
                if inside:
                    here = _step(here, inside[0])
                    names.append(inside[0])
                elif names:
                    here = _step(here, "..")
                    os.rmdir(names.pop(), dir_fd=here)
                else:
                    break
            except FileNotFoundError:  # somebody else was quicker
                pass
    finally:
        os.close(here)
    os.rmdir(directory)


def _inside(here: int) -> "list[str]":
    """The names of the cgroups in this one, none if it has gone."""
    try:
        with os.scandir(here) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _step(here: int, name: str) -> int:
    """Go from an open directory to another; the first one is closed then. Raises OSError."""
    there = os.open(name, FLAGS, dir_fd=here)
    os.close(here)
    return there
