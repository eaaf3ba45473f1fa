"""The machine's cgroups as the machine itself sees them, whatever a runtime's own view is."""

import os
import signal
import time

V2 = ""
MARK = "trusted.nri_hook"


def mounts():
    """Hierarchy, as /proc/PID/cgroup names it ("" is v2) -> where it is mounted here."""
    found = {}
    names = [line.split(":")[1] for line in _lines("/proc/self/cgroup")]
    for line in _lines("/proc/self/mounts"):
        _, mount, kind, options = line.split()[:4]
        for name in names:
            is_v1 = kind == "cgroup" and set(options.split(",")).issuperset(name.split(","))
            if is_v1 if name else kind == "cgroup2":
                found.setdefault(name, mount)
    return found


def pure_v2():
    """Whether this machine has cgroup v2 alone."""
    return list(mounts()) == [V2]


def membership(pid):
    """Hierarchy -> path of a process in it."""
    fields = [line.split(":", 2) for line in _lines(f"/proc/{pid}/cgroup")]
    return {name: path for _, name, path in fields}


def directories(pid):
    """Hierarchy -> directory of a process in it, where it is mounted."""
    found = mounts()
    return {name: found[name] + path for name, path in membership(pid).items() if name in found}


def places(path):
    """The directories that the cgroup `path` has in all hierarchies."""
    found = [mount + path for mount in mounts().values()]
    return [directory for directory in found if os.path.isdir(directory)]


def find(pid, file):
    """The path of a control file of the cgroup that a process is in, None where there is none."""
    for directory in directories(pid).values():
        if os.path.exists(f"{directory}/{file}"):
            return f"{directory}/{file}"
    return None


def value(pid, *files):
    """The text of the first of these control files that the cgroup of a process has."""
    paths = [path for path in (find(pid, file) for file in files) if path]
    assert paths, f"pid {pid} has none of {files} in {membership(pid)}"
    return read(paths[0])


def read(path):
    with open(path) as file:
        return file.read().strip()


def write(path, text):
    with open(path, "w") as file:
        file.write(str(text))


def make(path, hierarchies=None):
    """Make the cgroup `path` in these hierarchies, or in all of them; the directories.

    A v1 cpuset is filled from its parent: it would take no process.
    """
    made = []
    for name, mount in mounts().items():
        if hierarchies is not None and name not in hierarchies:
            continue
        directory = mount
        for part in path.strip("/").split("/"):
            directory = f"{directory}/{part}"
            os.makedirs(directory, exist_ok=True)
            if name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if not read(f"{directory}/{file}"):
                        write(f"{directory}/{file}", read(f"{os.path.dirname(directory)}/{file}"))
        made.append(directory)
    return made


def named(start):
    """All directories, in all hierarchies, of cgroups in whose path a name begins with `start`."""
    found = []
    for mount in mounts().values():
        for directory, names, _ in os.walk(mount):
            inner = directory[len(mount) :]
            if f"/{start}" in inner:
                found.append(directory)
            # Only what can hold test cgroups: the root, and the cgroup that the tests run in.
            elif inner.count("/") > 5:
                names.clear()
    return found


def mark(directory):
    """Whose mark is on a directory, the name of a record; None for one that nri-hook did not
    make."""
    try:
        return os.getxattr(directory, MARK).decode().partition(" ")[0]
    except OSError:
        return None


def remove(directory, seconds=3.0):
    """Kill what is in a cgroup and remove it, with all below it."""
    deadline = time.monotonic() + seconds
    for inner in sorted((entry[0] for entry in os.walk(directory)), reverse=True):
        while os.path.isdir(inner):
            try:
                for pid in read(f"{inner}/cgroup.procs").split():
                    os.kill(int(pid), signal.SIGKILL)
                os.rmdir(inner)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _lines(path):
    with open(path) as file:
        return file.read().splitlines()
