"""What can be done about an error, by its code."""

from __future__ import annotations

from nri_hook import errors

REMEDIES = {
    errors.PATH_EXPECTED: "This container is on cgroupfs, so the plugin has to answer a path, as "
    "the container's own is. slice:prefix:name is for containers under systemd's cgroup manager "
    "(podman --cgroup-manager systemd, runc and crun --systemd-cgroup).",
    errors.UNIT_EXPECTED: "This container is under systemd's cgroup manager, so the plugin has to "
    "answer slice:prefix:name, as the container's own is. A path is for containers on cgroupfs.",
    errors.PARENT_LIMIT: 'If the container may leave that limit, set "leaveParent": true in the '
    "plugin's entry of the configuration. If not, let the plugin answer a place below that parent.",
    errors.RELATIVE_PATH: "Give the engine an absolute cgroup parent (podman --cgroup-parent "
    '/NAME), or set "leaveParent": true in the plugin\'s entry of the configuration.',
    errors.MUST_BE_PLACED: "Remove the cause that it names, or take onLeft out of the plugin's "
    "entry if the container may start where it is.",
    errors.OCCUPIED: "Another container or process is there. Let the plugin answer a place of its "
    "own for each container, with its id in it.",
    errors.FROZEN: "Thaw that cgroup, or let the plugin answer another one.",
    errors.NOT_FOUND: "Put an executable of the plugin's name into one of these directories, or "
    "take its entry out of the configuration.",
    errors.UNTRUSTED: "Look at it: others could have written it. If it is not yours, put a copy "
    "that you trust in its place (install -o root -g root -m 0755 COPY PATH); chmod go-w what is "
    "open. `nri-hook doctor` has the commands.",
    errors.NOT_EXECUTABLE: "Make the plugin executable: chmod 755.",
    errors.CANNOT_RUN: "Try to run it by hand: `PLUGIN invoke`. The interpreter of its first line "
    "may be missing.",
    errors.TIMED_OUT: "Its stderr may say what it was doing. For more time, set `timeout` in its "
    "entry, and `nri-hook install --timeout` for the whole chain.",
    errors.NO_TIME: "The plugins before it took all of the time: `nri-hook install --timeout`.",
    errors.BAD_CONFIGURATION: "Correct that file; `nri-hook validate` names every error in it.",
    errors.BAD_ANSWER: "The plugin has to print one JSON object, a Result of NRI 0.1, and nothing "
    "else on its stdout; `{}` is one.",
    errors.PLUGIN_ERROR: "The plugin itself refused the container, with these words.",
    errors.NOT_REMOVED: "`nri-hook gc` tries it again.",
    errors.REGISTERED_TWICE: "Remove one of the two hook files, or one of the two hooks in "
    "config.json: `nri-hook uninstall`.",
    errors.INTERNAL: "This is a bug in nri-hook: please report it, with the output of "
    "`nri-hook log ID --json`.",
}
