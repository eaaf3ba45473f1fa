"""What one invocation has to say: a line for syslog, and for stderr where something is wrong.

runc shows the stderr of a hook that fails, crun none. journal.py keeps more of it.
"""

import errno
import os
import time

from nri_hook.errors import Note, printable, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nri_hook.errors import HookError
    from nri_hook.hook.chain import Call

# Bytes of a line, and characters of one value in it: nobody shall push the outcome out of it.
MAX_LINE = 4096
MAX_VALUE = 1000
SOCKET = "/dev/log"
# syslog(3): the facility, and the levels in it.
DAEMON = 3 << 3
ERROR, WARNING, INFO = 3, 4, 6
# Seconds for a log that is full to take a line. It is given up then: a container waits for us.
PATIENCE = 0.1


class Report:
    """What is worth saying about one invocation, collected while it goes on.

    record: (directory, name) of the container's record, ("", "") where none is kept. calls: of its
    plugins. source, target: cgroupsPath before and after, where there is one. notes: what else
    happened. outcome: a word or two, "" as long as nothing was said. message, code: of a failure.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.id = ""
        self.record = ("", "")
        self.calls: "list[Call]" = []
        self.source = ""
        self.target = ""
        self.notes: "list[Note]" = []
        self.outcome = ""
        self.message = ""
        self.code = ""

    def note(self, text: str, code: str = "") -> None:
        """Have it said in the end. code: of the error that it tells of."""
        self.notes.append(Note(text, code))

    def note_all(self, errors: "Iterable[HookError]", head: str = "") -> None:
        """Have these errors said, each after `head`."""
        self.notes += [Note(f"{head}{error}", error.code) for error in errors]

    def succeed(self, outcome: str) -> None:
        """Log the outcome at level info, or warning if there are notes, which go to stderr too."""
        self.outcome = outcome
        if self.notes:
            _say(self._head() + "; ".join(note.text for note in self.notes))
        self._log(WARNING if self.notes else INFO)

    def fail(self, message: str, code: str = "") -> None:
        """Log the failure at level error, and say it on stderr. code: as of a HookError."""
        self.outcome = "failed"
        self.message = message
        self.code = code
        said = "; ".join([message, *(note.text for note in self.notes)])
        _say(f"{self._head()}{said}", f" [{code}]" if code else "")
        self._log(ERROR)

    def warn(self, line: str) -> None:
        """Say one thing more, after the end, on stderr and to syslog."""
        _say(self._head() + line)
        fields = _fields(stage=self.stage, container=self.id, outcome=self.outcome)
        _send(WARNING, f"{fields}; {line}")

    def _head(self) -> str:
        return f"nri-hook {self.stage}: " + (f"container {self.id}: " if self.id else "")

    def _log(self, level: int) -> None:
        calls = [f"{call.type}:{call.outcome.seconds * 1000:.1f}ms" for call in self.calls]
        known = {"plugins": ",".join(calls), "from": self.source, "to": self.target}
        text = _fields(
            stage=self.stage,
            container=self.id,
            **{key: value for key, value in known.items() if value},
            outcome=self.outcome,
            **{"code": self.code} if self.code else {},
        )
        said = [self.message] if self.message else []
        said += [note.text for note in self.notes]
        _send(level, text + "".join(f"; {words}" for words in said))


def _fields(**values: str) -> str:
    return " ".join(f"{key}={word(_cut(value))}" for key, value in values.items())


def _cut(value: str) -> str:
    return value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3] + "..."


def _line(text: str, end: str = "") -> bytes:
    """It as one line of at most MAX_LINE bytes, which are whole characters. end: is not cut."""
    room = MAX_LINE - len(end)
    data = printable(text[:room]).encode()[:room]
    return data.decode("utf-8", "ignore").encode() + end.encode()


def _say(text: str, end: str = "") -> None:
    """Write a line to stderr, unless it is a pipe that nobody reads."""
    import select

    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(PATIENCE * 1000):
            os.write(2, _line(text, end) + b"\n")
    except OSError:  # nobody listens; syslog has it
        pass


def _send(level: int, text: str) -> None:
    """Send a line to syslog. What cannot be had at once is dropped: syslog(3) waits for as long as
    the queue of the socket is full."""
    import _socket  # not in every stage there is something to say

    line = f"<{DAEMON | level}>{time.strftime('%b %e %H:%M:%S')} nri-hook[{os.getpid()}]: ".encode()
    line += _line(text)
    for kind, end in ((_socket.SOCK_DGRAM, b""), (_socket.SOCK_STREAM, b"\0")):
        try:
            log = _socket.socket(_socket.AF_UNIX, kind)
        except OSError:
            return
        log.settimeout(PATIENCE)
        try:
            log.connect(SOCKET)
            log.send(line + end)
            return
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                return
        finally:
            log.close()
