"""Throw-away bundles: a busybox and a config.json."""

import copy
import functools
import json
import os
import shutil
import subprocess
import tempfile

APPLETS = (
    "sh cat sleep echo true false ls mknod dd head stat id grep tail kill find mkdir rmdir tr"
    " mount umount"
).split()
# Ends at once on TERM, which a shell as pid 1 would not.
LOOP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
READY = ("sh", "-c", "echo ready")


class Bundle:
    """A directory with config.json and rootfs. `config` is the document; save() writes it."""

    def __init__(self, directory, cgroups_path, args=LOOP, edit=None, rootfs=None):
        """edit: a function that changes the document in place. rootfs: of another bundle."""
        self.directory = directory
        self.rootfs = rootfs or f"{directory}/rootfs"
        os.makedirs(directory)
        if rootfs is None:
            make_rootfs(self.rootfs)
        self.config = copy.deepcopy(_specification())
        self.config["process"].update(terminal=False, args=list(args))
        self.config["root"] = {"path": self.rootfs if rootfs else "rootfs", "readonly": False}
        if cgroups_path is not None:
            self.config["linux"]["cgroupsPath"] = cgroups_path
        if edit:
            edit(self.config)
        self.save()

    @property
    def cgroups_path(self):
        return self.config["linux"].get("cgroupsPath")

    @property
    def resources(self):
        return self.config["linux"].setdefault("resources", {})

    def save(self):
        with open(f"{self.directory}/config.json", "w") as file:
            json.dump(self.config, file, indent=1)

    def load(self):
        """Read the document again, after somebody else changed the file."""
        with open(f"{self.directory}/config.json") as file:
            self.config = json.load(file)


def make_rootfs(directory):
    """A root filesystem with busybox in /bin."""
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        os.makedirs(f"{directory}/{name}", 0o755)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", f"{directory}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{directory}/bin/{applet}")


@functools.cache
def _specification():
    """What `runc spec` writes."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["runc", "spec"], cwd=directory, check=True)
        with open(f"{directory}/config.json") as file:
            return json.load(file)
