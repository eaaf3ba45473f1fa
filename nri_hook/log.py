"""What one invocation has to say: a line for syslog, and for stderr where something is wrong.

runc shows the stderr of a hook that fails, crun none. journal.py keeps more of it.
"""

import os
import syslog

from nri_hook.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.chain import Call

MAX_LINE = 4096


class Report:
    """What is worth saying about one invocation, collected while it goes on.

    record: (folder, name) of the container's record, ("", "") where none is kept. calls: of its
    plugins. source, target: cgroupsPath before and after, where there is one. notes: what else
    happened. outcome: a word or two, "" as long as nothing was said. message: of a failure.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.id = ""
        self.record = ("", "")
        self.calls: "list[Call]" = []
        self.source = ""
        self.target = ""
        self.notes: "list[str]" = []
        self.outcome = ""
        self.message = ""

    def succeed(self, outcome: str) -> None:
        """Log the outcome at level info, or warning if there are notes, which go to stderr too."""
        self.outcome = outcome
        if self.notes:
            self._say(self._head() + "; ".join(self.notes))
        self._log(syslog.LOG_WARNING if self.notes else syslog.LOG_INFO)

    def fail(self, message: str) -> None:
        """Log the failure at level error, and say it on stderr."""
        self.outcome = "failed"
        self.message = message
        self._say(self._head() + "; ".join([message, *self.notes]))
        self._log(syslog.LOG_ERR)

    def warn(self, line: str) -> None:
        """Say one thing more, after the end, on stderr and to syslog."""
        self._say(self._head() + line)
        head = f"stage={self.stage} container={self.id} outcome={self.outcome}"
        self._send(syslog.LOG_WARNING, f"{head}; {line}")

    def _head(self) -> str:
        return f"nri-hook {self.stage}: " + (f"container {self.id}: " if self.id else "")

    def _say(self, line: str) -> None:
        try:
            os.write(2, (printable(line)[:MAX_LINE] + "\n").encode("utf-8", "backslashreplace"))
        except OSError:  # nobody listens; syslog has it
            pass

    def _log(self, level: int) -> None:
        fields = [f"stage={self.stage}", f"container={self.id}"]
        if self.calls:
            calls = [f"{call.type}:{call.outcome.seconds * 1000:.1f}ms" for call in self.calls]
            fields.append("plugins=" + ",".join(calls))
        if self.source:
            fields.append(f"from={self.source}")
        if self.target:
            fields.append(f"to={self.target}")
        fields.append(f"outcome={self.outcome}")
        text = " ".join(fields) + "".join(f"; {m}" for m in (self.message, *self.notes) if m)
        self._send(level, text)

    def _send(self, level: int, text: str) -> None:
        syslog.openlog("nri-hook", syslog.LOG_PID, syslog.LOG_DAEMON)
        line = printable(text).encode("utf-8", "backslashreplace").decode()
        syslog.syslog(level, line[:MAX_LINE])
