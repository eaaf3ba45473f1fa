"""The hooks that runs are compared with: none, the cheapest, the barest in Python, and ours."""

import json
import os

from bench import noops
from bench.scenes import PYTHON

STAGES = ("createRuntime", "poststart", "poststop")
NONE, LEAST, BARE = "no hooks", "the least there is", "bare interpreters"
OURS = ("ours, no plugins", "ours, 1 hosted", "ours, 3 hosted", "ours, 1 native")
MOVING = "ours, 1 hosted and a move"
ALL = (NONE, LEAST, BARE, *OURS, MOVING)
FEW = (NONE, LEAST, BARE, MOVING)
# Reads stdin to its end, as a hook must: crun writes it in one go and waits.
READING = f"#!{PYTHON} -IS\nimport sys\n\nsys.stdin.buffer.read()\n"
HOSTED_MOVER = """\
from nri_hook import skel


def invoke(request):
    result = request.new_result("mover")
    if request.state == "create":
        result.cgroups_path = f"{target}/{{request.id}}"
    return result


skel.run(invoke, "mover")
"""


def install(name, node, bundle, target):
    """Have these hooks called at all stages for a bundle, or, where it is None, for what looks
    into the node's hooks_dir. target: where a move leads, a cgroup for each container."""
    if name == NONE:
        return
    if name in (LEAST, BARE):
        path = f"{node.directory}/other"
        if name == LEAST:  # /bin/true, but that crun fails where nobody reads what it writes
            noops.native(path)
        else:
            node.executable("other", READING, node.directory)
        _register(path, node, bundle)
        return
    node.install(bundle)
    if name == MOVING:
        node.hosted("mover", HOSTED_MOVER.format(target=target))
        node.configure("mover")
    elif name != OURS[0]:
        number, kind = name.split(" ")[1:]
        noops.add(node, noops.NATIVE if kind == "native" else noops.PLAIN, int(number))


def _register(path, node, bundle):
    if bundle:
        bundle.config["hooks"] = {stage: [{"path": path}] for stage in STAGES}
        bundle.save()
        return
    document = {
        "version": "1.0.0",
        "hook": {"path": path},
        "when": {"always": True},
        "stages": list(STAGES),
    }
    with open(os.path.join(node.hooks_dir, "90-other.json"), "w") as file:
        json.dump(document, file)
