"""What can be done about a failure: words of its message -> the fix."""

from __future__ import annotations

import re

FIXES = {
    r"has systemd's form, expected a path": "This container is on cgroupfs, so the plugin has to "
    "answer a path, as the container's own is. slice:prefix:name is for containers under "
    "systemd's cgroup manager (podman --cgroup-manager systemd, runc and crun --systemd-cgroup).",
    r"is a path, expected slice:prefix:name": "This container is under systemd's cgroup manager, "
    "so the plugin has to answer slice:prefix:name, as the container's own is. A path is for "
    "containers on cgroupfs.",
    r'expected "leaveParent": true': "If the container may leave that limit, say so in the "
    "plugin's entry of the configuration; else have the plugin answer a place below that parent.",
    r'expected an absolute one, or "leaveParent"': "Give the engine an absolute cgroup parent "
    "(podman --cgroup-parent /NAME), or say so in the plugin's entry of the configuration.",
    r'"onLeft": "fail"': "Remove the cause that it names, or take onLeft out of the plugin's entry "
    "if the container may start where it is.",
    r"is occupied by|holds the cgroup|is taken by the container|is a scope already": "Somebody "
    "else is there. Have the plugin answer a place for each container, with its id in it.",
    r"is frozen": "Thaw that cgroup, or have the plugin answer another one.",
    r": not found in ": "Put an executable of the plugin's name into one of these directories, or "
    "take its entry out of the configuration.",
    r"may be written by others|belongs to uid": "Look at it: others could have written it. If "
    "it is somebody else's, put a copy that you trust in its place (install -o root -g root -m "
    "0755 COPY PATH); chmod go-w what is open. `nri-hook doctor` has the commands.",
    r"plugin .*: Permission denied": "Make the plugin executable: chmod 755.",
    r"cannot be run: ": "Try to run it by hand: `PLUGIN invoke`. The interpreter of its first line "
    "may be missing.",
    r"killed: no answer within": "What it was at may be in its stderr. More time: `timeout` in "
    "its entry, and `nri-hook install --timeout` for the whole chain.",
    r"no time is left for it": "The plugins before it took all of the time: `nri-hook install "
    "--timeout`.",
    r"(\.conf|/conf\.json): ": "Correct that file; `nri-hook validate` names every error in it.",
    r"its answer: ": "The plugin has to print one JSON object, a Result of NRI 0.1, and nothing "
    "else on its stdout; `{}` is one.",
    r": says: ": "The plugin itself refused the container, with these words.",
    r"NOT undone|cannot be removed": "`nri-hook gc` tries it again.",
    r"the hook is registered twice": "Take one of the two hook files, or of the two hooks in "
    "config.json, away: `nri-hook uninstall`.",
}


def find(text: str) -> str:
    """What to do about a failure that reads so, "" where nothing is known."""
    return next((fix for pattern, fix in FIXES.items() if re.search(pattern, text)), "")
