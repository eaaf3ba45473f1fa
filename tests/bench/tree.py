# `python3 -IS tree.py all|one NOTE COMMAND...`: runs the command and, with `all`, waits for what it
# leaves, daemons such as conmon too; adds a line to the file NOTE: seconds until the command ended,
# seconds of CPU of all that was waited for. It ends as the command did.
import _ctypes
import os
import resource
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


class Long(_ctypes._SimpleCData):
    _type_ = "l"


class Function(_ctypes.CFuncPtr):
    _flags_ = 1
    _restype_ = Long


which, note, *command = sys.argv[1:]
prctl = Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl"))
if which == "all":
    assert prctl(*map(Long, (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))) == 0
begin = time.perf_counter()
pid = os.posix_spawnp(command[0], command, os.environ)
status = os.waitpid(pid, 0)[1]
wall = time.perf_counter() - begin
try:
    while which == "all":
        os.wait()
except ChildProcessError:
    pass
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(note, "a") as file:
    file.write(f"{wall} {usage.ru_utime + usage.ru_stime}\n")
os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
