"""The kinds of containers: what of a config bears on whether a live move can be exact."""

CGROUPS = "/sys/fs/cgroup"
RUNTIMES = ("runc", "crun")
# The user on the host who is root in a user namespace.
MAPPED = 100000


def writable(config):
    (mount,) = (m for m in config["mounts"] if m["destination"] == CGROUPS)
    mount["options"].remove("ro")


def admin(config):
    for names in config["process"]["capabilities"].values():
        names.append("CAP_SYS_ADMIN")


def mapped(config):
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    mapping = {"containerID": 0, "hostID": MAPPED, "size": 65536}
    linux["uidMappings"] = linux["gidMappings"] = [mapping]


def over_sys_fs(config):
    """As hostPath /sys/fs makes it: it comes after the engine's own mounts, and covers them. The
    cgroups, on v2 one mount, are read-only."""
    config["mounts"] += [_bind("/sys/fs", "rprivate"), _bind(CGROUPS, "rprivate", "ro")]


def over_sys(config):
    """As hostPath /sys makes it, with the mountPropagation Bidirectional."""
    _replace_sysfs(config, "rshared")
    config["linux"]["rootfsPropagation"] = "rshared"


def over_locked_sys(config):
    """As CRI-O has it with a user namespace, which cannot mount the sysfs of the host's network:
    the mounts that cover the cgroups are locked."""
    _replace_sysfs(config, "nosuid", "noexec", "nodev", "ro")
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "network"]


def _bind(path, *options):
    return {"destination": path, "type": "bind", "source": path, "options": ["rbind", *options]}


def _replace_sysfs(config, *options):
    mounts = [m for m in config["mounts"] if m["destination"] != "/sys"]
    config["mounts"] = [*mounts, _bind("/sys", *options)]
    # What is mounted over one in a shared /sys, as it is under crun at times, all others see.
    config["linux"].pop("maskedPaths")


class Kind:
    """name: of a cell. title: what the page calls it. edits: functions that change a config.json.
    flags: the same for podman; {plain} is the plain container of its role. could_write: the
    runtimes under which it has, or can make, a cgroup mount that it can write to, as far as a hook
    can tell. sees_own: whether its cgroup mounts show its own cgroup. way: how it is begun, see
    cells.py.
    """

    def __init__(
        self, name, title, edits=(), flags=(), could_write=RUNTIMES, sees_own=True, way="create"
    ):
        self.name = name
        self.title = title
        self.edits = edits
        self.flags = flags
        self.could_write = could_write
        self.sees_own = sees_own
        self.way = way
        # Of its root filesystem.
        self.owner = MAPPED if mapped in edits else 0


# As `runc spec` has it: the cgroup mount is read-only, and there is no CAP_SYS_ADMIN.
PLAIN = Kind("plain", "plain", could_write=())
OVER_LOCKED_SYS = Kind(
    "over-locked-sys", "user namespace, /sys", [mapped, over_locked_sys], sees_own=False
)
KINDS = (
    Kind("writable", "rw", [writable]),
    Kind("admin", "CAP_SYS_ADMIN", [admin]),
    Kind("mapped-writable", "user namespace, rw", [mapped, writable]),
    Kind("mapped-admin", "user namespace, CAP_SYS_ADMIN", [mapped, admin]),
    # crun makes them read-only after the hooks, and of two at one place nobody can say which.
    Kind("over-sys-fs", "/sys/fs, ro", [over_sys_fs], could_write=("crun",), sees_own=False),
    Kind("over-sys", "/sys, shared", [over_sys], sees_own=False),
    OVER_LOCKED_SYS,
)
# On v2 systemd is the first process; else a shell is.
SYSTEMD = Kind("systemd", "--systemd=always", flags=["--systemd=always"])
PRIVILEGED = Kind("privileged", "--privileged", flags=["--privileged"])
# It is deleted by force, and so before the other one, as podman wants it.
JOINED = Kind(
    "joined",
    "--cgroupns=container:",
    flags=["--cgroupns", "container:{plain}"],
    could_write=(),
    sees_own=False,
    way="detached",
)
ENGINE_KINDS = (SYSTEMD, PRIVILEGED, JOINED)
