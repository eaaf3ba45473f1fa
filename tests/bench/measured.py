# The body of `runc-measured NOTE COMMAND...`; scenes.py puts a first line before it.
# It runs the command with its own stdin, stdout and stderr, appends a line to the file NOTE, the
# seconds of CPU of the command with all children that it has waited for, and ends as it did. A
# hook takes it for its runtime: by the name, and by its command line the root is the default one.
import os
import sys

note, *command = sys.argv[1:]
_, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
with open(note, "a") as file:
    file.write(f"{usage.ru_utime + usage.ru_stime}\n")
os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
