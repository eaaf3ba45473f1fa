"""What is there of a container: processes, cgroups, units, files, wherever they are."""

import os
import subprocess

from support import cgroups


def processes(words):
    """The pids of the processes with this command line."""
    wanted = "\0".join(words) + "\0"
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if file.read() == wanted:
                    found.append(int(pid))
        except OSError:
            continue
    return found


def directories(container):
    """(hierarchy, directory) of each cgroup with its name."""
    return [
        (name, directory)
        for name, mount in cgroups.mounts().items()
        for directory, _, _ in os.walk(mount)
        if container.hook_id in directory
    ]


def everything(container, environment):
    """All of it as a list of texts."""
    found = ["process" for pid in processes(container.words)]
    found += [f"{name or 'v2'} cgroup {directory}" for name, directory in directories(container)]
    for top in (*environment.known_dirs(), "/sys/fs/bpf"):
        for place, names, files in os.walk(top):
            found += [f"{place}/{n}" for n in (*names, *files) if container.hook_id in n]
    if environment.manager == "systemd":
        words = ["systemctl", "list-units", "--all", "--plain", "--no-legend"]
        done = subprocess.run([*words, f"*{container.hook_id}*"], stdout=subprocess.PIPE, text=True)
        found += [f"unit {line.split()[0]}" for line in done.stdout.splitlines()]
    return found
