"""Plugins that do nothing, of each kind that there is."""

import os
import py_compile
import shutil
import subprocess

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
NATIVE, PLAIN, COMPILED, EXECUTABLE = "native", "hosted", "hosted and compiled", "in Python"


def language():
    """Of a native plugin: C where there is a compiler."""
    return "C" if shutil.which("cc") else "sh"


def add(node, kind, count, package):
    """Give a node so many plugins of a kind, and configure them. package: the folder that
    nri_hook is in, for the executables in Python."""
    types = [f"noop-{number}" for number in range(count)]
    for type in types:
        path = f"{node.plugin_dir}/{type}"
        if kind == NATIVE:
            native(path)
        elif kind in (PLAIN, COMPILED):
            hosted = node.hosted(type, HOSTED.format(type=type))
            if kind == COMPILED:
                py_compile.compile(hosted, doraise=True)
        else:
            head = f"#!{PYTHON} -IS\nimport sys\n\nsys.path.append({package!r})\n"
            node.executable(type, head + HOSTED.format(type=type))
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
