"""Plugins that do nothing, of each kind that there is."""

import os
import shutil
import subprocess
import sys

from support.tree import TOP

from bench.scenes import PYTHON

# As little as a native plugin can be: the payload is read, the answer is `{}`.
C = r"""
#include <unistd.h>
int main(void) {
  static char payload[65536];
  while (read(0, payload, sizeof payload) > 0) {}
  return write(1, "{}", 2) == 2 ? 0 : 1;
}
"""
SH = "#!/bin/sh\necho '{}'\nexec cat >/dev/null\n"
# The same file hosted, and with a first line as an executable.
HOSTED = """\
from nri_hook import skel

skel.run(lambda request: None, {type!r})
"""
# The first line that docs/plugins.md tells of, and the leanest that Python allows.
FIRST = f"#!{sys.executable}\n"
LEANEST = f"#!{PYTHON} -IS\nimport sys\n\nsys.path.append({TOP!r})\n"
NATIVE, PLAIN, EXECUTABLE, LEAN = "native", "hosted", "in Python", "in Python -IS"


def language():
    """Of a native plugin: C where there is a compiler."""
    return "C" if shutil.which("cc") else "sh"


def add(node, kind, count):
    """Give a node so many plugins of a kind, and configure them."""
    types = [f"noop-{number}" for number in range(count)]
    for type in types:
        text = HOSTED.format(type=type)
        if kind == NATIVE:
            native(f"{node.plugin_dir}/{type}")
        elif kind == PLAIN:
            node.hosted(type, text)
        else:
            node.executable(type, (FIRST if kind == EXECUTABLE else LEANEST) + text)
    node.configure(*types)


def native(path):
    """Make a native plugin at `path`."""
    if language() == "C":
        words = ["cc", "-x", "c", "-Os", "-static", "-s", "-o", path, "-"]
        subprocess.run(words, input=C, text=True, check=True)
        return
    with open(path, "w") as file:
        file.write(SH)
    os.chmod(path, 0o755)
