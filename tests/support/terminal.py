"""A command with a terminal of a given width for its stdout."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

from support.commands import Done

SECONDS = 60


def on_terminal(argv, columns=80, **environment):
    """Run the command; what it showed, with the terminal's own line ends taken back."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
    )
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    _, err = process.communicate(timeout=SECONDS)
    text = b"".join(chunks).decode().replace("\r\n", "\n")
    return Done(argv, process.returncode, text, err.decode())
