"""One creation: the chain, the placement it asks for, and the way back when something fails."""

import time

from nri_hook import procfs
from nri_hook.errors import INTERNAL, MUST_BE_PLACED, NOT_REMOVED, HookError, Left, Refused
from nri_hook.hook import payload, record, runtimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional, Protocol, Union

    from nri_hook.cgroups.plan import PlacementDocument
    from nri_hook.hook.chain import Answer, Chain
    from nri_hook.hook.container import Container
    from nri_hook.hook.host_config import Entry
    from nri_hook.hook.precreate import Draft
    from nri_hook.hook.report import Report

    class Mover(Protocol):
        """How a container gets to a place: by a live move, or by its config."""

        def put(
            self, path: str, leave_parent: bool, ledger: "Ledger"
        ) -> "Optional[dict[str, str]]":
            """Put it there; hierarchy -> cgroup from then on, None if it is there already.
            Raises Left, Refused, HookError."""

        def take_back(self, deadline: float) -> "list[HookError]":
            """Undo what put() has done so far; what failed. deadline: of time.monotonic()."""

        def settle(self) -> "list[HookError]":
            """It stays there; what failed of what is not worth taking it back."""

        def document(self) -> "list[PlacementDocument]":
            """What cleanup.clean_up() shall clean up one day, none or one."""


# Seconds after a failure for the undo and the deletes; the hook file allows options.MARGIN.
UNDO_TIME = 8.0
# Seconds for the last processes of a former container to end; the runtime has just killed them.
PATIENCE = 1.0
PAUSE = 0.02


def check_may_start(left: Left, entries: "list[Entry]") -> None:
    """Raise Refused if one of these entries lets no container start where it is.

    entries: the one whose answer cannot be followed; all where there is none to go by.
    """
    for entry in entries:
        if entry.must_place:
            reason = f'it must not start where it is ("onLeft": "fail"): {left}'
            raise Refused(reason, plugin=entry.type, code=MUST_BE_PLACED) from None


class Ledger:
    """Where a placement is written down while it goes on.

    name: of the container's record, which the marks on its directories repeat.
    directory: the state directory.
    is_stale: whether the container of the record of that name is gone.
    save: writes down how far the placement is. Raises HookError.
    """

    def __init__(
        self, book: "Union[record.Record, record.NoRecord]", save: "Callable[[], None]"
    ) -> None:
        self.name = book.name
        self.directory = book.directory
        self.is_stale = book.is_stale
        self.save = save


class Creation:
    """The creation of one container, written down in its record before each step.

    request: for all plugins. origin: its cgroupsPath before our first hook. outcome: "moved",
    "stays", "left"; "chain" while it goes on. reason: why it was left, by precreate or now.
    """

    def __init__(
        self,
        container: "Union[Container, Draft]",
        request: "dict[str, Any]",
        chain: "Chain",
        book: "Union[record.Record, record.NoRecord]",
        report: "Report",
    ) -> None:
        self.container = container
        self.mover: "Optional[Mover]" = None  # as long as nothing asks for a place
        self.chain = chain
        self.book = book
        self.report = report
        self.request = request
        self.origin = self.cgroups_path = container.cgroups_path
        self.cgroups = container.membership
        self.outcome = "chain"
        self.reason = ""
        self.leftovers: "list[PlacementDocument]" = []
        self.setup: "record.RecordDocument" = {}  # precreate's record; a later version's keys stay
        self._is_saved = False

    def finish_former(self, deadline: float) -> None:
        """Finish what is left of a former container of this name, whose poststop never came.
        Raises HookError, with nothing changed, if the container is there all the same."""
        document = self.book.document
        if not document:
            return
        from nri_hook.hook import deletion

        _check_gone(document, self.book.path)
        present = self.request.get("pid", 0)
        self.report.note("a former container of this id was not deleted; doing it now")
        for error in deletion.finish(document, deadline, PATIENCE, self.report, present):
            self.report.note(str(error), error.code)
            self.leftovers = document["placements"]

    def take_over(self, former: "record.Record", deadline: float) -> None:
        """Go on from the record that precreate left of this container."""
        document = self.setup = former.document
        self.origin = document["origin"]
        self.reason = document["reason"] and f"precreate left it: {document['reason']}"
        if document["entries"] == [entry.document for entry in self.chain.entries]:
            self.chain.resume(document["called"])
        else:  # other plugins than now: theirs ends here
            from nri_hook.hook import deletion

            self.report.note_all(deletion.send(document, deadline, self.report))
        self.leftovers += document["placements"]
        self.save()
        former.remove()

    def run(self, deadline: float) -> None:
        """Call the chain, then place the container once. Raises HookError, all undone."""
        try:
            answer = self.chain.invoke(self.request, deadline, self._save_call)
            self.outcome = self._place(answer) if answer else self._unplaced()
            self._save_end()
            if self.mover:
                self.report.note_all(self.mover.settle())
        except (Exception, KeyboardInterrupt) as error:
            raise self._undo(error) from error
        finally:
            self.report.calls += self.chain.calls
            self.report.notes += self.chain.notes

    def save(self) -> None:
        """Write the record, the keys that deletion.py reads, and who, when and where; later on
        what of it may have changed."""
        if self.chain.meanwhile:  # the move itself may come next
            self.chain.meanwhile()
        changes: "record.RecordDocument" = {
            "called": self.chain.called,
            "results": self.chain.results,
            "cgroupsPath": self.cgroups_path,
            "cgroups": self.cgroups,
            "placements": self.leftovers + self._begun(),
            "outcome": self.outcome,
            "reason": self.reason,
        }
        if self._is_saved:
            self.book.add(changes)
            return
        self.book.save(
            {
                **self.setup,
                **self.container.identity(),
                "version": record.VERSION,
                "entries": [entry.document for entry in self.chain.entries],
                "folders": self.chain.directories.paths,
                "request": self.request,
                "origin": self.origin,
                **changes,
            }
        )
        self._is_saved = True

    def _save_call(self) -> None:
        """Write down that a plugin is about to be called."""
        if self._is_saved:
            self.book.add({"called": self.chain.called, "results": self.chain.results})
        else:
            self.save()

    def _save_end(self) -> None:
        """Write down how it ended."""
        if self.outcome == "stays" and self._is_saved:
            self.book.add(
                {
                    "called": self.chain.called,
                    "results": self.chain.results,
                    "outcome": self.outcome,
                }
            )
        else:
            self.save()

    def _place(self, answer: "Answer") -> str:
        """Put the container where the answer says; the outcome."""
        from nri_hook.cgroups import paths

        try:
            path = paths.normal(answer.cgroups_path, self.container.cgroups_path)
            if path is None:
                return "stays"
            self.report.target = path
            if self.reason:
                raise Left(self.reason)
            self.book.check_kept()
            self.mover = self.container.mover()
            placed = self.mover.put(path, answer.entry.leave_parent, Ledger(self.book, self.save))
        except Left as left:
            check_may_start(left, [answer.entry])
            return self._leave(left)
        except Refused as refused:
            raise Refused(refused.args[0], answer.entry.type, refused.path, refused.code) from None
        if placed is None:
            self.report.target = ""
            return "stays"
        self.cgroups_path, self.cgroups = path, placed
        return "moved"

    def _unplaced(self) -> str:
        """The outcome where no plugin asks for a place."""
        return "left" if self.reason else "stays"

    def _begun(self) -> "list[PlacementDocument]":
        return self.mover.document() if self.mover else []

    def _take_back(self, deadline: float) -> "list[HookError]":
        return self.mover.take_back(deadline) if self.mover else []

    def _leave(self, left: Left) -> str:
        errors = self._take_back(time.monotonic() + UNDO_TIME)
        if errors:
            text = "; ".join([f"{left}; not undone", *map(str, errors)])
            raise HookError(text, code=NOT_REMOVED)
        self.report.target = ""
        self.reason = str(left)
        self.report.note(f"left where it is: {left}", left.code)
        return "left"

    def _undo(self, error: BaseException) -> HookError:
        """Undo the placement, then send `delete` to every plugin that was called; what to say."""
        deadline = time.monotonic() + UNDO_TIME
        if isinstance(error, HookError):
            reason, code = str(error), error.code
        else:
            reason, code = f"{type(error).__name__}: {error}", INTERNAL
        undone = []
        begun = self._begun()
        # A cgroup that somebody else has entered is waited for in vain: some time is the plugins'.
        failed = self._take_back(deadline - UNDO_TIME / 2)
        if begun and not failed:
            undone.append("the move")
        called = self.chain.called
        if called:
            request = payload.deletion(
                self.request, self.container.cgroups_path, self.container.membership
            )
            _, lost = self.chain.delete(request, called, self.chain.results, deadline)
            self.report.note_all(lost, "delete: ")
            types = [self.chain.entries[index].type for index in reversed(called)]
            undone.append("delete sent to " + ", ".join(types))
        try:
            if failed or self.leftovers:
                self.save()
            else:
                self.book.remove()
        except HookError as problem:
            failed.append(problem)
        for left in failed:
            self.report.note(f"NOT undone: {left}", NOT_REMOVED)
        end = "undone: " + ", ".join(undone) if undone else "nothing to undo"
        return HookError(f"{reason}; {end}", code=code)


def _check_gone(document: "record.RecordDocument", path: str) -> None:
    """Raise HookError unless the container of a record has ended, and its runtime has forgotten it:
    one that is there must not be cleaned up for another one of its id. path: of the record."""
    known = runtimes.record_of(document)
    if known:
        raise HookError(f"the container is still there: {known}, expected none", path=path)
    deadline = time.monotonic() + PATIENCE  # for one that the runtime has just killed
    while procfs.is_alive(document["pid"], document["start"]):
        if time.monotonic() > deadline:
            raise HookError(
                f"the former container of this id still runs as process {document['pid']},"
                " expected it to have ended; `nri-hook doctor` says what to do",
                path=path,
            )
        time.sleep(PAUSE)
