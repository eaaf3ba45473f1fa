"""One line per invocation, to syslog: runc shows the stderr of a hook that fails, crun none."""

import os
import syslog

from nri_hook.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

MAX_LINE = 4096


class Report:
    """What is worth saying about one invocation, collected while it goes on.

    calls: (plugin type, milliseconds). source, target: cgroupsPath before and after, where there
    is one. outcome: a word or two. notes: what else happened.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.id = ""
        self.calls: "list[tuple[str, float]]" = []
        self.source = ""
        self.target = ""
        self.notes: "list[str]" = []

    def succeed(self, outcome: str) -> None:
        """Log the outcome at level info, or warning if there are notes, which go to stderr too."""
        if self.notes:
            self._say(self._head() + "; ".join(self.notes))
        self._log(syslog.LOG_WARNING if self.notes else syslog.LOG_INFO, outcome)

    def fail(self, message: str) -> None:
        """Log the failure at level error, and say it on stderr."""
        self._say(self._head() + "; ".join([message, *self.notes]))
        self._log(syslog.LOG_ERR, "failed", message)

    def _head(self) -> str:
        return f"nri-hook {self.stage}: " + (f"container {self.id}: " if self.id else "")

    def _say(self, line: str) -> None:
        try:
            os.write(2, (printable(line)[:MAX_LINE] + "\n").encode("utf-8", "backslashreplace"))
        except OSError:  # nobody listens; syslog has it
            pass

    def _log(self, level: int, outcome: str, message: "Optional[str]" = None) -> None:
        fields = [f"stage={self.stage}", f"container={self.id}"]
        if self.calls:
            fields.append("plugins=" + ",".join(f"{t}:{ms:.1f}ms" for t, ms in self.calls))
        if self.source:
            fields.append(f"from={self.source}")
        if self.target:
            fields.append(f"to={self.target}")
        fields.append(f"outcome={outcome}")
        text = " ".join(fields) + "".join(f"; {m}" for m in (message, *self.notes) if m)
        syslog.openlog("nri-hook", syslog.LOG_PID, syslog.LOG_DAEMON)
        line = printable(text).encode("utf-8", "backslashreplace").decode()
        syslog.syslog(level, line[:MAX_LINE])
