"""One container of the table, native or moved, and what has been seen of it."""

import os
import re
import shutil
import time

from support import cgroups
from support.bundle import Bundle, make_rootfs
from test_move import KMSG, NOTHING, rule

from fidelity import remains
from fidelity.kinds import CGROUPS, PLAIN, SYSTEMD

MIB = 1 << 20
SECONDS = 20
# Under systemd properties of the scope, which no control file shows; else only annotations.
PROPERTIES = {
    "org.systemd.property.TimeoutStopUSec": "uint64 123000000",
    "org.systemd.property.RuntimeMaxUSec": "uint64 3600000000",
    "org.systemd.property.ManagedOOMMemoryPressure": "'kill'",
}
# Of the names of scopes: where a container is to be, and where a moved one starts.
PREFIX, START_PREFIX = "nri", "first"
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.sh")
INIT = "/usr/lib/systemd/systemd"
# Nothing but the program is started, so that it is up in no time.
SERVICE = """
[Unit]
DefaultDependencies=no
[Service]
ExecStart=@/bin/sh sh /program.sh %i tries
OOMPolicy=continue
StandardOutput=null
StandardError=null
"""


class Container:
    """cell: where it belongs. role: "native" or "moved". id: its name for whoever starts it.

    words: the command line of the program in it. pid: of its first process. parent: the cgroup or
    slice that it is below. fields: what has been seen, see observe.py.
    """

    def __init__(self, cell, role, environment, stage):
        self.cell = cell
        self.role = role
        self.environment = environment
        self.stage = stage
        self.id = f"{stage.name}-{cell.name}-{role}"
        self.hook_id = self.id
        self.words = ["sh", "/program.sh", self.id]
        if cell.kind is not PLAIN:
            self.words.append("tries")
        # On v1 podman gives it the machine's own hierarchy of systemd.
        self.has_systemd = cell.kind is SYSTEMD and cell.version == 2
        self.pid = 0
        # A native one is made where the moved one is to be in the end.
        self.created_at = stage.start if role == "moved" or cell.left else stage.target
        self.parent = self.created_at
        self.rootfs = (
            f"{stage.directory}/rootfs-{'systemd' if self.has_systemd else cell.kind.owner}"
        )
        self.fields = {}
        self.fifos = {}
        # What whoever started it in the foreground has said.
        self.said = f"{stage.directory}/{self.id}.said"
        self.bundle = self._bundle()

    def __repr__(self):
        return self.id

    def _bundle(self):
        environment = self.environment
        prefix = PREFIX if self.created_at == self.stage.target else START_PREFIX
        path = environment.cgroups_path(self.created_at, prefix, self.id)
        if not os.path.isdir(self.rootfs):
            self._make_rootfs()
        for name in ("ticks", "go"):
            fifo = f"{self.rootfs}/{name}-{self.id}"
            os.mkfifo(fifo)
            os.chown(fifo, self.cell.kind.owner, self.cell.kind.owner)
            # Open as long as it lives: what is written must wait for its reader.
            self.fifos[name] = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        words = [INIT, f"--unit=program@{self.id}.service"] if self.has_systemd else self.words
        directory = f"{self.stage.directory}/{self.id}"
        bundle = Bundle(directory, path, words, self._edit, self.rootfs)
        environment.dress(bundle, self)
        return bundle

    def _make_rootfs(self):
        if self.has_systemd:
            make_debian(self.rootfs)
        else:
            make_rootfs(self.rootfs)
        shutil.copy(PROGRAM, f"{self.rootfs}/program.sh")
        for directory, _, _ in os.walk(self.rootfs):
            os.chown(directory, self.cell.kind.owner, self.cell.kind.owner)

    def _edit(self, config):
        cell, linux = self.cell, config["linux"]
        kinds = {"cgroup"} if cell.pids == "private" else {"cgroup", "pid"}
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] not in kinds]
        if cell.cgroup_namespace:
            linux["namespaces"].append({"type": "cgroup"})
        linux["resources"] = _resources(self.environment.managed())
        linux["resources"]["devices"] = [NOTHING, rule(True, KMSG)]
        config.setdefault("annotations", {}).update(PROPERTIES)
        for names in config["process"]["capabilities"].values():
            names.append("CAP_MKNOD")
        config["mounts"] = [m for m in config["mounts"] if m["destination"] != CGROUPS]
        options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
        mount = {"type": "cgroup", "source": "cgroup", "options": options}
        config["mounts"].append({"destination": CGROUPS, **mount})
        for edit in cell.kind.edits:
            edit(config)

    # where it is

    def directories(self):
        """Hierarchy -> directory, those that its runtime manages."""
        mounts = self.environment.hierarchies()
        found = cgroups.membership(self.pid)
        if self.has_systemd:  # which has gone below, so as to make others there
            found = {name: path.removesuffix("/init.scope") for name, path in found.items()}
        return {name: mount + found[name] for name, mount in mounts.items() if name in found}

    def scope(self, directory):
        """The directory of its scope under systemd; else the directory itself."""
        head, found, _ = directory.partition(".scope")
        return head + found

    def levels(self, directory):
        """The directories from its scope down to where its process is."""
        found = [self.scope(directory)]
        for part in directory[len(found[0]) :].strip("/").split("/"):
            if part:
                found.append(f"{found[-1]}/{part}")
        return found

    def unit(self):
        (directory,) = self.directories().values()
        return os.path.basename(self.scope(directory))

    def is_at(self, parent):
        """Whether its cgroups are below that one."""
        return all(
            f"/{parent.lstrip('/')}/" in directory for directory in self.directories().values()
        )

    def settle(self, state, reason):
        """Take from the runtime's state who it is, and note where it is. reason: why it was left,
        by the hook."""
        self.pid, self.hook_id = state["pid"], state["id"]
        places = [p for p in (self.stage.start, self.stage.target) if self.is_at(p)]
        assert places, f"{self} is in none of its places, but at {self.directories()}"
        (self.parent,) = places
        as_asked = self.role == "native" or self.parent == self.stage.target
        self.fields["place"] = "as asked" if as_asked else f"left: {self.normal(reason)}"

    def program(self):
        """The pid of the program in it."""
        return min(remains.processes(self.words)) if self.has_systemd else self.pid

    def normal(self, text):
        """A text without what is this container's alone."""
        names = {self.hook_id, self.id, self.hook_id[:12] if self.environment.engine else self.id}
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, "ID")
        text = re.sub(r'time="[^"]*" ', "", text.replace(self.parent, "PARENT"))
        if self.parent == self.stage.start:
            text = text.replace(f"{START_PREFIX}-ID", f"{PREFIX}-ID")
        return re.sub(rf"\b{self.pid}\b", "PID", text) if self.pid else text

    # what it says

    def report(self):
        """The sections of what it found when it started."""
        return sections(self.when_reported(lambda: True))

    def when_reported(self, is_alive):
        """The report, once it is whole."""
        path = f"{self.rootfs}/report-{self.id}"
        deadline = time.monotonic() + SECONDS
        while True:
            text = cgroups.read(path) if os.path.exists(path) else ""
            if text.endswith("== end"):
                return text
            late = time.monotonic() > deadline or not is_alive()
            assert not late, f"{self}: no whole report: {text}{self._said()}"
            time.sleep(0.02)

    def _said(self):
        return cgroups.read(self.said) if os.path.exists(self.said) else ""

    def tick(self):
        """Have it count one more, as soon as it can; how far it had counted before."""
        before = self.counted()
        os.write(self.fifos["ticks"], b"\n")
        return before

    def counted(self):
        """How far it has counted."""
        return os.path.getsize(f"{self.rootfs}/count-{self.id}")

    def let_go(self):
        """Have its exec end."""
        os.write(self.fifos["go"], b"\n")

    def close(self):
        for fd in self.fifos.values():
            os.close(fd)


def make_debian(directory):
    """A root filesystem with this machine's /usr, which is to be mounted there."""
    for name in ("dev", "etc/systemd/system", "proc", "run", "sys", "tmp", "usr", "var"):
        os.makedirs(f"{directory}/{name}", 0o755)
    for name in ("bin", "lib", "lib64", "sbin"):
        os.symlink(f"usr/{name}", f"{directory}/{name}")
    with open(f"{directory}/etc/systemd/system/program@.service", "w") as file:
        file.write(SERVICE)
    # A first boot would look at every unit file.
    with open(f"{directory}/etc/machine-id", "w") as file:
        file.write("0123456789abcdef0123456789abcdef\n")


def sections(text):
    """The lines below each "== name" of a report."""
    found, lines = {}, []
    for line in text.splitlines():
        if line.startswith("== "):
            lines = found[line[3:]] = []
        else:
            lines.append(line)
    return found


def _resources(controllers):
    """A setting for each controller that is here."""
    found = {
        "memory": {"limit": 48 * MIB, "reservation": 24 * MIB},
        "pids": {"limit": 77},
        "cpu": {"shares": 512, "quota": 100000, "period": 50000},
    }
    found = {name: value for name, value in found.items() if name in controllers}
    if "cpuset" in controllers:
        found.setdefault("cpu", {}).update(cpus="0", mems="0")
    if "hugetlb" in controllers:
        found["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 * MIB}]
    if disk() and controllers & {"io", "blkio"}:
        number = cgroups.read(f"/sys/block/{disk()}/dev").split(":")
        limit = {"major": int(number[0]), "minor": int(number[1]), "rate": 99 * MIB}
        found["blockIO"] = {"throttleReadBpsDevice": [limit]}
    return found


def disk():
    """The name of a disk, "" where there is none."""
    names = sorted(os.listdir("/sys/block"))
    return next((name for name in names if name.startswith(("vd", "sd", "ubd", "nvme"))), "")
