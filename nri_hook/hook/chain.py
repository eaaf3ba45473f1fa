"""The plugins in order: each sees the answers of those before, the last cgroupsPath wins."""

import time

from nri_hook import spawn, strictjson
from nri_hook.errors import BAD_ANSWER, NO_TIME, PLUGIN_ERROR, TIMED_OUT, HookError, Note
from nri_hook.hook import payload, plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from nri_hook.hook.host_config import Entry
    from nri_hook.hook.plugin import Program

# What a plugin that ran into its deadline gets for its `delete`, in seconds.
LATE_DELETE = 1.0
MAX_TAIL = 400


class Answer:
    """A cgroupsPath that was answered, and the configuration of the plugin that did."""

    def __init__(self, cgroups_path: str, entry: "Entry") -> None:
        self.cgroups_path = cgroups_path
        self.entry = entry


class Call:
    """A call of a plugin that ran. type, program: the plugin. state, payload: what it was told."""

    def __init__(
        self, program: "Program", state: str, payload: bytes, outcome: spawn.Outcome
    ) -> None:
        self.type = program.type
        self.program = program
        self.state = state
        self.payload = payload
        self.outcome = outcome


class Chain:
    """The chain of one container.

    entries: the plugins, in order.
    called: indexes into `entries` of those that got setup or create, in order.
    results: their answers.
    late: those of `called` that ran into their deadline.
    calls: every call made here, in order.
    notes: what is worth saying and is not a failure.
    meanwhile: called again and again while a plugin runs.
    """

    def __init__(
        self,
        entries: "list[Entry]",
        directories: "list[str]",
        meanwhile: "Optional[spawn.Meanwhile]" = None,
    ) -> None:
        self.entries = entries
        self.meanwhile = meanwhile
        self.directories = plugin.Directories(directories)
        self.calls: "list[Call]" = []
        self.notes: "list[Note]" = []
        self.called: "list[int]" = []
        self.late: "list[int]" = []
        self.results: "list[dict[str, Any]]" = []

    def resume(self, called: "list[int]") -> None:
        """Go on from an earlier stage of this container, in which these entries were called."""
        self.called = called

    def invoke(
        self, request: "dict[str, Any]", deadline: float, before: "Callable[[], None]"
    ) -> "Optional[Answer]":
        """Call every plugin, until one fails; the winning answer, None where none was given.

        deadline: of time.monotonic(), for the whole chain. before: called before each plugin is,
        with it in `called`. Raises HookError.
        """
        answer = None
        for index, entry in enumerate(self.entries):
            try:
                result = self._call(index, request, self.results, deadline, before)
            except HookError as error:
                if not entry.ignore or not error.plugin:  # what is our own fault is not covered
                    raise
                self.notes.append(Note(f"{error} (ignored)", error.code))
                continue
            self.results.append(result)
            if result.get("cgroupsPath"):
                answer = Answer(result["cgroupsPath"], entry)
        return answer

    def delete(
        self,
        request: "dict[str, Any]",
        called: "list[int]",
        results: "list[dict[str, Any]]",
        deadline: float,
    ) -> "tuple[list[dict[str, Any]], list[HookError]]":
        """Send `delete` to plugins, whatever fails; their answers, in this order, and the failures.

        called: indexes into `entries`, in the order of their setup or create; `delete` goes in
        reverse. results: what they answered then. deadline: of time.monotonic(), for all of them.
        """
        answers, errors = [], []
        for index in reversed(called):
            end = deadline
            if index in self.late:
                end = min(end, time.monotonic() + LATE_DELETE)
            try:
                answer = self._call(index, request, results, end)
            except HookError as error:
                errors.append(error)
                continue
            answers.append(answer)
            if answer.get("cgroupsPath"):
                text = f"plugin {answer['plugin']}: its cgroupsPath is ignored"
                self.notes.append(Note(text))
        return answers, errors

    def _call(
        self,
        index: int,
        request: "dict[str, Any]",
        results: "list[dict[str, Any]]",
        deadline: float,
        before: "Optional[Callable[[], None]]" = None,
    ) -> "dict[str, Any]":
        """Call one plugin; its checked answer. Raises HookError."""
        entry = self.entries[index]
        found = self.directories.find(entry.type)
        now = time.monotonic()
        if now >= deadline:
            raise HookError("no time is left for it", plugin=entry.type, code=NO_TIME)
        if entry.timeout is not None:
            deadline = min(deadline, now + entry.timeout)
        document = payload.for_plugin(request, entry.document, results)
        stdin = strictjson.dumps(document)
        is_new = before is not None and index not in self.called
        self.called += [index] if is_new else []
        try:
            if before:
                before()
            outcome = found.run(stdin, deadline, document, self.meanwhile)
        except HookError:  # it has not run, so there is nothing that a `delete` could undo
            self.called = self.called[:-1] if is_new else self.called
            raise
        self.calls.append(Call(found, request["state"], stdin, outcome))
        if outcome.late:
            if before:
                self.late.append(index)
            raise HookError(
                f"killed: no answer within {deadline - now:.3g} s{_tail(outcome.errors)}",
                plugin=entry.type,
                path=found.path,
                code=TIMED_OUT,
            )
        if outcome.flooded:
            raise HookError(
                f"killed: its answer is larger than {spawn.MAX_OUTPUT} bytes",
                plugin=entry.type,
                path=found.path,
                code=BAD_ANSWER,
            )
        return self._judge(entry.type, outcome, request)

    def _judge(
        self, type: str, outcome: spawn.Outcome, request: "dict[str, Any]"
    ) -> "dict[str, Any]":
        """The Result of a plugin that ended by itself. As in the Go client the exit status does
        not count where the answer is well-formed and says no `error`."""
        try:
            result = payload.read_result(outcome.output, type, request)
        except HookError as error:
            raise HookError(
                f"{error.args[0]}{_status(outcome)}{_tail(outcome.errors)}",
                plugin=type,
                path=error.path,
                code=error.code,
            ) from None
        if result.get("error"):
            reason = f"says: {result['error'][:MAX_TAIL]}"
            raise HookError(reason, plugin=type, code=PLUGIN_ERROR)
        if outcome.status != 0:
            self.notes.append(Note(f"plugin {type}: a good answer{_status(outcome)}"))
        return result


def _status(outcome: spawn.Outcome) -> str:
    if not outcome.status:
        return ""
    if outcome.status < 0:
        return f", killed by signal {-outcome.status}"
    return f", exit status {outcome.status}"


def _tail(errors: bytes) -> str:
    text = errors.decode("utf-8", "replace").strip()
    return f", stderr: {text[-MAX_TAIL:]}" if text else ""
