"""The programmable plugin: a real executable that notes its calls and does what it is told."""

import json
import os
import sys

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")


class Plugin:
    """A plugin of this type in a plugin directory.

    script: state, or "*" for all others -> what to do, in this order, all optional:
      python: code to run, with payload, directory(hierarchy, cgroup), setting(payload, file), os
      settings: control file of the container's cgroup -> text to write
      fork: {"seconds": 60, "keep": [1, 2], "session": false}: a child that sleeps and keeps these
      stderr: text. sleep: seconds before the answer
      result: object, {} if nothing is said. Or print: the answer as raw text. {id}, {pid} and
      {path}, the cgroupsPath, are filled in in both. flood: so many bytes more
      close: whether to close stdout and stderr. linger: seconds to go on afterwards
      signal: number to kill itself with. exit: status
    and "deaf": true beside the states: stdin is not read at all.
    """

    def __init__(self, directory, type, data, script=None, hosted=False):
        """directory: where the executable goes. data: where the notes go, one directory per type.
        hosted: whether it is a Python plugin for the hook to host, and no executable."""
        self.type = type
        self.path = os.path.join(directory, f"{type}.py" if hosted else type)
        self.directory = os.path.join(data, type)
        os.makedirs(f"{self.directory}/calls", exist_ok=True)
        self.play(script or {})
        with open(PROGRAM) as file:
            program = file.read()
        with open(self.path, "w") as file:
            python = os.path.realpath(sys.executable)
            file.write("" if hosted else f"#!{python} -IS\n")
            file.write(f"DIRECTORY = {self.directory!r}\nHOSTED = {hosted}\n{program}")
        os.chmod(self.path, 0o644 if hosted else 0o755)

    def play(self, script):
        """Take another script from now on."""
        with open(f"{self.directory}/script.json.new", "w") as file:
            json.dump(script, file)
        os.rename(f"{self.directory}/script.json.new", f"{self.directory}/script.json")

    def calls(self, state=None):
        """Its calls in order, or those with this state: see program.py for the keys."""
        return notes(self.directory, "call", state)

    def call(self, state):
        """Its only call with this state."""
        (call,) = self.calls(state)
        return call

    def forks(self):
        """The pids of the children that it left."""
        return [note["pid"] for note in notes(self.directory, "fork")]


def notes(directory, ending, state=None):
    """What the program noted in files with this ending, in order."""
    found = []
    for name in sorted(os.listdir(f"{directory}/calls")):
        if name.endswith(f".{ending}"):
            with open(f"{directory}/calls/{name}") as file:
                found.append(json.load(file))
    return [note for note in found if state in (None, note["state"])]
