"""What all containers of one environment go through, from their beginning to their end.

They go through it together: in a guest a daemon-reload or a command of podman takes seconds, and
most commands of podman take many containers.
"""

import os
import signal
import subprocess
import time

from support import cgroups
from support.commands import read
from support.observer import Observer

from fidelity import environments, observe, remains
from fidelity.container import MIB, Container, sections
from fidelity.environments import said
from fidelity.kinds import JOINED
from fidelity.stage import Stage

ROLES = ("native", "moved")
UPDATED = 32 * MIB
SECONDS = 20
# Within this time a counter that is not paused goes on, and what was killed is gone.
MOMENT = 0.4
# Within this one a foreground run ends which does: podman takes its time in a busy guest.
PATIENCE = 30


def play(scene, name, cells):
    """Cell -> {"native": fields, "moved": fields}."""
    environment = environments.make(name, scene)
    stage = Stage(scene, environment)
    node = scene.node()
    plugin = node.plugin("mover")
    plugin.play({"create": {"result": {"cgroupsPath": environment.answer(stage.target)}}})
    node.configure(plugin)
    observers = [Observer(pid) for pid in environment.witnesses()]
    drama = Drama(environment, stage, node)
    try:
        drama.perform(cells)
        changes = [change for observer in observers for change in observer.changes()]
        assert not changes, "changed on the node:\n" + "\n".join(changes)
    finally:
        drama.close()
        environment.close()
        stage.close()
    return {cell: {c.role: c.fields for c in drama.containers if c.cell is cell} for cell in cells}


class Drama:
    """The acts, in order."""

    def __init__(self, environment, stage, node):
        self.environment = environment
        self.stage = stage
        self.node = node
        self.containers = []
        self.running = []
        self.shells = {}

    def perform(self, cells):
        joining = [cell for cell in cells if cell.kind is JOINED]
        self._begin_all([cell for cell in cells if cell not in joining])
        unstarted = self._of("unstarted")
        self._look_at_created([*self._of("create"), *unstarted])
        self._delete(unstarted, force=True)
        self.stage.delegate()
        self._start(self._of("create"))
        # Only now: podman would start the others for them.
        self._begin_all(joining)
        self.running = [c for way in ("create", "detached", "foreground") for c in self._of(way)]
        self._look()
        for container in self.running:
            self._exec("exec", container)
        self._pause()
        self._update()
        if self.stage.slices:
            self._reload()
        self._use_up_memory()
        self._delete(self._of("detached"), force=True)
        self._kill(self._of("create"))
        self._let_end(self._of("foreground"))

    def close(self):
        for shell in self.shells.values():
            shell.kill()
            shell.wait()
        for container in self.containers:
            container.close()

    def _of(self, way):
        """Those that have begun in this way."""
        return [c for c in self.containers if c.cell.way == way and c.fields["begin"] == 0]

    def _note(self, field, outcomes):
        """Write down what came of one command for each of some containers."""
        for container, outcome in outcomes.items():
            container.fields[field] = outcome

    def _notes(self, field, done):
        self._note(field, {c: said(d, c) for c, d in done.items()})

    # the acts

    def _begin_all(self, cells):
        for role in ROLES:
            for cell in cells:
                self._begin(Container(cell, role, self.environment, self.stage))

    def _begin(self, container):
        environment = self.environment
        self.containers.append(container)
        if container.role == "moved":
            environment.install(self.node, container.bundle)
        else:
            environment.do_without_hooks()
        container.fields["begin"] = 0
        if container.cell.way == "foreground":
            self._in_background(container)
            return
        begin = environment.run if container.cell.way == "detached" else environment.create
        container.fields["begin"] = said(begin(container.id, container.bundle), container)
        if container.fields["begin"] != 0:
            environment.delete(container.id)

    def _in_background(self, container):
        self.environment.ids.append(container.id)
        words = self.environment.foreground_words(container.id, container.bundle)
        shell = self._popen(words, container.said)
        self.shells[container] = shell
        container.when_reported(lambda: shell.poll() is None)

    def _popen(self, words, out):
        # conmon leaves a file in its working directory when memory is used up.
        with open(out, "w") as file:
            return subprocess.Popen(
                words,
                cwd=self.stage.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def _look_at_created(self, containers):
        """Between create and start. An update that fails here, as it does under systemd, would
        make all that follows differ: there it is for those only that are never started."""
        if not containers:
            return
        self._settle("created.state", containers)
        for container in containers:
            self._processes("created.ps", container, {"init": container.pid})
            unstarted = container.cell.way == "unstarted"
            if unstarted or not self.stage.slices:
                self._update_one(container)
            if unstarted and not self.environment.engine:
                self._exec("created.exec", container)

    def _update_one(self, container):
        before = observe.settings(container)
        done = self.environment.update(container, UPDATED + MIB)
        container.fields["created.update"] = said(done, container)
        after = observe.settings(container)
        container.fields["created.updated"] = observe.changes(before, after)

    def _start(self, containers):
        if containers:
            for done in self.environment.start_all(containers).values():
                done.check()

    def _look(self):
        self._settle("state", self.running)
        self._see_adopted()
        for container in self.running:
            container.fields.update(observe.inside(container))
            container.fields.update(observe.outside(container))
        if self.stage.slices:
            for container, fields in observe.units(self.running).items():
                container.fields.update(fields)

    def _settle(self, field, containers):
        """Look where they are, and what the runtime says of them."""
        reasons = {d["id"]: d["reason"] for d in self.node.records().values()}
        for container, state in self.environment.states(containers).items():
            assert state["pid"], f"{container} has ended"
            container.settle(state, reasons.get(state["id"], ""))
            self._state(field, container, state)

    def _see_adopted(self):
        """poststart comes when the container runs already, and in a busy guest it takes a while."""
        ids = {c.hook_id for c in self.running}

        def late():
            records = self.node.records().values()
            return [d["id"] for d in records if d["id"] in ids and d["outcome"] == "moved"]

        assert _until(lambda: not late(), SECONDS), f"poststart has not adopted {late()}"

    def _state(self, field, container, state):
        for key, value in state.items():
            if key not in ("created", "id", "pid"):
                container.fields[f"{field}.{key}"] = container.normal(str(value))

    def _processes(self, field, container, expected):
        listed = self.environment.processes(container)
        for name, pid in expected.items():
            container.fields[f"{field} {name}"] = (
                pid in listed if isinstance(listed, list) else container.normal(listed)
            )

    def _exec(self, field, container):
        words = ["sh", "/program.sh", "exec", container.id]
        out = f"{self.stage.directory}/{container.id}.{field}"
        shell = self._popen([*self.environment.exec_words(container), *words], out)
        try:
            _until(lambda: "== end" in read(out) or shell.poll() is not None, SECONDS)
            for pid in remains.processes(words):
                for hierarchy, path in cgroups.membership(pid).items():
                    name = f"{field}.membership {hierarchy or 'v2'}"
                    container.fields[name] = container.normal(path)
                expected = {"init": container.pid, "exec": pid}
                self._processes(f"{field}.ps", container, expected)
                container.let_go()
            container.fields[f"{field}.status"] = shell.wait(SECONDS)
        finally:
            shell.kill()
            shell.wait()
        report = sections(read(out))
        said = "whole" if "end" in report else container.normal(read(out))
        container.fields[f"{field}.report"] = said
        for line in report.get("cgroup", []):
            _, name, path = line.split(":", 2)
            container.fields[f"{field}.cgroup {name or 'v2'}"] = container.normal(path)
        for line in report.get("devices", []):
            device, _, outcome = line.partition(" ")
            container.fields[f"{field}.devices {device}"] = outcome

    def _pause(self):
        self._notes("pause", self.environment.pause_all(self.running))
        states = self.environment.states(self.running)
        self._note("pause.status", {c: state.get("status") for c, state in states.items()})
        before = {c: c.tick() for c in self.running}
        time.sleep(MOMENT)
        for container in self.running:
            stands = container.counted() == before[container]
            container.fields["pause.counter"] = "stands" if stands else "goes on"
        self._notes("resume", self.environment.resume_all(self.running))
        for container in self.running:
            going = _until(lambda c=container: c.counted() > before[c], SECONDS)
            container.fields["resume.counter"] = "goes on" if going else "stands"

    def _update(self):
        before = self._all_settings()
        for container in self.running:
            done = self.environment.update(container, UPDATED)
            container.fields["update"] = said(done, container)
        after = self._all_settings()
        for container in self.running:
            changed = observe.changes(before[container], after[container])
            container.fields["update.changed"] = changed

    def _reload(self):
        before = self._all_settings()
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        after = self._all_settings()
        for container in self.running:
            changed = observe.changes(before[container], after[container])
            container.fields["reload.changed"] = changed
            container.fields["reload.membership"] = container.normal(
                str(cgroups.membership(container.pid))
            )

    def _all_settings(self):
        found = {c: observe.settings(c) for c in self.running}
        if self.stage.slices:
            for container, fields in observe.units(self.running).items():
                found[container].update(fields)
        return found

    def _use_up_memory(self):
        """A process of the container grows until the kernel ends it."""
        if "memory" not in self.environment.controllers():
            return
        watched = [c for c in self._of("detached") if c.cell.runtime == "runc"]
        watched = [] if self.environment.engine else watched
        for container in watched:
            self._watch_events(container)
        for container in self.running:
            os.kill(container.program(), signal.SIGUSR1)
        for container in self.running:
            killed = _until(lambda c=container: _oom_kills(c) > 0, SECONDS)
            container.fields["oom.counted"] = killed
        for container in watched:
            path = f"{self.stage.directory}/{container.id}.events"
            told = _until(lambda p=path: '"type":"oom"' in read(p))
            container.fields["oom.event"] = told
            statistics = '"type":"stats"' in read(path)
            container.fields["events.stats"] = statistics

    def _watch_events(self, container):
        environment = self.environment
        words = [*environment.prefix, *environment.command(), "events", "--interval", "1s"]
        path = f"{self.stage.directory}/{container.id}.events"
        self.shells[container] = self._popen([*words, container.id], path)
        assert _until(lambda: read(path), SECONDS), f"no events of {container}"

    def _kill(self, containers):
        """By the runtime's kill; then delete, which has nothing to end any more."""
        if not containers:
            return
        self._notes("kill", self.environment.kill_all(containers))
        for container in containers:
            _until(lambda c=container: not os.path.isdir(f"/proc/{c.pid}"), SECONDS)
        self._look_at_ended(containers)
        self._delete(containers, force=False)

    def _look_at_ended(self, containers):
        for container, state in self.environment.states(containers).items():
            self._state("ended.state", container, state)
        for container in containers:
            gone = _until(lambda c=container: not remains.processes(c.words))
            container.fields["ended.processes"] = "gone" if gone else "left"

    def _delete(self, containers, force):
        if containers:
            self._notes("delete", self.environment.delete_all(containers, force))
        for container in containers:
            self._look_after(container)

    def _let_end(self, containers):
        """The first process ends by itself."""
        for container in containers:
            os.kill(container.pid, signal.SIGTERM)
        # crun waits for what init has left behind, and for ever.
        deadline = time.monotonic() + PATIENCE
        for container in containers:
            shell = self.shells.pop(container)
            try:
                status = shell.wait(max(MOMENT, deadline - time.monotonic()))
                container.fields["foreground.status"] = status
            except subprocess.TimeoutExpired:
                container.fields["foreground.status"] = "hangs"
                shell.kill()
                shell.wait()
        if self.environment.engine and containers:
            self.environment.wait_ended(containers)
            self._look_at_ended(containers)
            self._delete(containers, force=False)
        else:
            for container in containers:
                self._look_after(container)

    def _look_after(self, container):
        """What is left of it."""
        _until(lambda: not remains.everything(container, self.environment))
        left = remains.everything(container, self.environment)
        container.fields["left"] = container.normal("; ".join(left)) or "nothing"
        # What no runtime or hook would remove any more.
        for _, directory in remains.directories(container):
            if os.path.isdir(directory):
                cgroups.remove(directory)


def _oom_kills(container):
    """How often the kernel has ended a process in the cgroup that the container is in."""
    for directory in container.directories().values():
        for name in ("memory.events", "memory.oom_control"):
            if os.path.exists(f"{directory}/{name}"):
                lines = dict(
                    line.split() for line in cgroups.read(f"{directory}/{name}").splitlines()
                )
                return int(lines["oom_kill"])
    return 0


def _until(holds, seconds=MOMENT):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
