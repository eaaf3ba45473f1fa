"""`nri-hook invoke`: calls plugins as the hook would, and shows all of it. It moves nothing."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from nri_hook import strictjson, trust
from nri_hook.cli import flags, screen
from nri_hook.cli.subject import Subject
from nri_hook.errors import HookError, Left, Refused, UsageError
from nri_hook.hook import options, payload, plugin
from nri_hook.hook.chain import Call, Chain
from nri_hook.hook.host_config import load

if TYPE_CHECKING:
    from nri_hook.cgroups.preview import Change
    from nri_hook.cli.install import Commands


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "invoke",
        help="call one plugin, or the whole chain, and show the result",
        description="Call a plugin, or the plugins of the host configuration, with a recorded "
        "payload, the payload of a bundle, or an example. Show request, answer, stderr, time "
        "and verdict. Nothing is moved: if the container exists, show what a move to the "
        "answered place would do, control file by control file. The plugins themselves really "
        "run. Paths are those in the installed hook files; flags given here take precedence.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--plugin",
        metavar="PATH",
        help="call this one, an executable or .py; root calls none that others could have written",
    )
    parser.add_argument("--conf", metavar="JSON", help="with --plugin: its conf")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--request", metavar="FILE", help="send this payload, as `nri-hook log --payload` prints it"
    )
    source.add_argument(
        "--bundle",
        metavar="DIR",
        help="send the payload of this bundle; its container may run or not",
    )
    parser.add_argument(
        "--pid", type=int, metavar="PID", help="with --bundle: the container's first process"
    )
    parser.add_argument(
        "--state",
        choices=payload.STATES,
        help="state to send instead of create, or of the one in FILE",
    )
    parser.add_argument(
        "--annotation",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="add an annotation to the payload, or replace its value; repeatable",
    )
    flags.add(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for; 1 where a plugin failed. Raises HookError."""
    if args.conf is not None and not args.plugin:
        raise UsageError("--conf: expected --plugin with it")
    if args.pid is not None and not args.bundle:
        raise UsageError("--pid: expected --bundle with it")
    if args.pid is not None and args.pid < 1:
        raise UsageError(f"--pid: expected a process id, found {args.pid}")
    chosen = flags.chosen(args)
    subject = Subject(args, chosen)
    trial = One(args, subject) if args.plugin else Configured(chosen)
    os.chdir("/")  # where plugins run
    trial.run(subject.request, time.monotonic() + chosen.timeout)
    move = Move(subject, trial)
    if args.json:
        screen.document(_document(trial, move))
    else:
        _show(trial, move)
    return 1 if trial.failure else 0


class Trial:
    """What is called. calls: those that ran. failure: what the hook would say, "" for nothing.

    cgroups_path: where they want the container, "" for no opinion. leave_parent: whether the
    entry of the plugin that says so allows it to leave a limited parent. must_place: whether that
    entry lets no container be left. warning: what is wrong that the hook would not pass over.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failure = ""
        self.cgroups_path = ""
        self.leave_parent = False
        self.must_place = False
        self.warning = ""

    def run(self, request: dict[str, Any], deadline: float) -> None:
        """Call it. deadline: of time.monotonic(), for all of it."""
        raise NotImplementedError


class One(Trial):
    """One plugin by its path. Whoever may write it, a user is only warned of that; root executes
    nothing that others could have written."""

    def __init__(self, args: argparse.Namespace, subject: Subject) -> None:
        super().__init__()
        self.program = plugin.at(trust.absolute(args.plugin))
        self.entry: dict[str, Any] = {"type": self.program.type}
        if args.conf is not None:
            self.entry["conf"] = _json(args.conf)
        elif "conf" in subject.recorded:
            self.entry["conf"] = subject.recorded["conf"]
        self.results = subject.recorded.get("results") or []
        try:
            self.program.check()
        except HookError as error:
            if os.geteuid() == 0:
                raise HookError(
                    f"{error.args[0]}, so it is not run", error.plugin, error.path, error.code
                ) from None
            self.warning = f"the hook would not run it: {error}"

    def run(self, request: dict[str, Any], deadline: float) -> None:
        stdin = strictjson.dumps(payload.for_plugin(request, self.entry, self.results))
        try:
            outcome = self.program.run(stdin, deadline)
        except HookError as error:
            self.failure = str(error)
            return
        self.calls.append(Call(self.program, request["state"], stdin, outcome))
        self.failure = _verdict(self.calls[0])
        if not self.failure:
            answer = payload.read_result(outcome.output, self.program.type, request)
            self.cgroups_path = answer.get("cgroupsPath", "")


class Configured(Trial):
    """The chain of the host configuration."""

    def __init__(self, chosen: options.Options) -> None:
        super().__init__()
        self.entries = load(chosen.conf_dir)
        if not self.entries:
            message = "configures no plugin, expected one or --plugin"
            raise HookError(message, path=chosen.conf_dir)
        self.chain = Chain(self.entries, chosen.plugin_path())

    def run(self, request: dict[str, Any], deadline: float) -> None:
        try:
            if request["state"] == "delete":
                everyone = list(range(len(self.entries)))
                _, errors = self.chain.delete(request, everyone, [], deadline)
                self.failure = "; ".join(map(str, errors))
            else:
                self._take(self.chain.invoke(request, deadline, lambda: None))
        except HookError as error:
            self.failure = str(error)
        self.calls = self.chain.calls
        self.warning = "; ".join(note.text for note in self.chain.notes)

    def _take(self, answer: Any) -> None:
        if answer:
            self.cgroups_path = answer.cgroups_path
            self.leave_parent = answer.entry.leave_parent
            self.must_place = answer.entry.must_place


class Move:
    """What would become of the container. outcome: "moved", "stays", "left", "refused", or ""
    where there is none. reason: of the last two. target: where to. changes: in their order."""

    def __init__(self, subject: Subject, trial: Trial) -> None:
        self.outcome = self.reason = ""
        self.source, self.target = subject.cgroups_path, trial.cgroups_path
        self.changes: list[Change] = []
        asked = subject.request["state"] in ("setup", "create")
        if not subject.alive or trial.failure or not asked:
            return
        self.outcome = "stays"
        try:
            if self.target:
                found = subject.changes(self.target, trial.leave_parent)
                self.outcome = "stays" if found is None else "moved"
                self.changes = found or []
        except Left as left:
            self.outcome = "refused" if trial.must_place else "left"
            self.reason = str(left)
        except Refused as refused:
            self.outcome, self.reason = "refused", str(refused)


def _verdict(call: Call) -> str:
    """What the hook says of an answer, "" where it is good."""
    outcome = call.outcome
    if outcome.late:
        return "killed: no answer in time"
    if outcome.flooded:
        return "killed: its answer is too large"
    try:
        answer = payload.read_result(outcome.output, call.type, strictjson.loads(call.payload))
    except HookError as error:
        return str(error)
    return f"says: {answer['error']}" if answer.get("error") else ""


def _json(text: str) -> Any:
    try:
        return strictjson.loads(text.encode("utf-8", "surrogateescape"))
    except strictjson.JSONError as error:
        raise UsageError(f"--conf: {error}") from None


def _document(trial: Trial, move: Move) -> dict[str, Any]:
    return {
        "calls": [
            {
                "type": call.type,
                "path": call.program.path,
                "hosted": call.program.hosted,
                "state": call.state,
                "request": strictjson.loads(call.payload),
                "answer": call.outcome.output.decode("utf-8", "replace"),
                "verdict": _verdict(call) or "good",
                "stderr": call.outcome.errors.decode("utf-8", "replace"),
                "status": call.outcome.status,
                "ms": round(call.outcome.seconds * 1000, 1),
            }
            for call in trial.calls
        ],
        "failure": trial.failure,
        "warning": trial.warning,
        "cgroupsPath": trial.cgroups_path,
        "move": {
            "outcome": move.outcome,
            "reason": move.reason,
            "from": move.source,
            "to": move.target,
            "changes": [vars(change) for change in move.changes],
        },
    }


def _show(trial: Trial, move: Move) -> None:
    for call in trial.calls:
        outcome, verdict = call.outcome, _verdict(call)
        kind = " (hosted)" if call.program.hosted else ""
        errors = outcome.errors.decode("utf-8", "replace").splitlines()
        screen.fields(
            [
                ("plugin", f"{call.type}, {call.program.path}{kind}"),
                ("request", call.payload.decode()),
                ("answer", outcome.output.decode("utf-8", "replace").strip() or "nothing"),
                *(("stderr", line) for line in errors),
                ("verdict", verdict or "good"),
                ("status", f"{outcome.status}, {outcome.seconds * 1000:.1f} ms"),
            ],
            {"good": "green", verdict: "red"},
        )
        print()
    if trial.warning:
        screen.line(f"warning: {trial.warning}", "yellow")
    if trial.failure:
        screen.line(f"the container would not start: {trial.failure}", "red")
    elif move.outcome == "moved":
        screen.line(f"it would be moved from {move.source} to {move.target}:")
        screen.table(
            ["WHAT", "WHERE", "VALUE"],
            [[change.what, change.where, change.value] for change in move.changes],
        )
    elif move.outcome == "stays":
        screen.line(f"it would stay at {move.source}")
    elif move.outcome:
        screen.line(f"it would be {move.outcome}: {move.reason}", "yellow")
