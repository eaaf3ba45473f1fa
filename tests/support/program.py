# The body of every programmable plugin; plugin.py puts DIRECTORY and HOSTED before it.
# It notes down how it was called, then does what DIRECTORY/script.json says for the state.
# ruff: noqa: F821
import json
import os
import sys
import time

BEGIN = time.monotonic_ns()


def main():
    status = dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink("/proc/self/fd/" + fd)
        except FileNotFoundError:  # that of the listing
            pass
    umask = os.umask(0)
    os.umask(umask)
    script = json.loads(text(DIRECTORY + "/script.json"))
    raw = b"" if script.get("deaf") else sys.stdin.buffer.read()
    try:
        payload = json.loads(raw)
    except ValueError:
        payload = {}
    call = {
        "type": os.path.basename(DIRECTORY),
        "state": payload.get("state"),
        "payload": payload,
        "raw": raw.decode("utf-8", "backslashreplace"),
        "argv": sys.argv,
        "environment": environment(),
        "cwd": os.getcwd(),
        "umask": umask,
        "fds": fds,
        "blocked": int(status["SigBlk"], 16),
        # Python itself ignores SIGPIPE and SIGXFSZ; 32 and 33 are the C library's own.
        "ignored": int(status["SigIgn"], 16) & ~(1 << 12 | 1 << 24 | 1 << 31 | 1 << 32),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "begin": BEGIN,
    }
    pid = payload.get("pid", 0)
    if pid > 0:
        call["membership"] = membership(pid)
    note(call)
    act(script.get(payload.get("state"), script.get("*", {})), payload)


def act(script, payload):
    if "python" in script:
        exec(
            script["python"],
            {"payload": payload, "directory": directory, "setting": setting, "os": os},
        )
    for file, value in script.get("settings", {}).items():
        path = setting(payload, file)
        with open(path, "w") as control:
            control.write(value)
    if "fork" in script and os.fork() == 0:
        for fd in (0, 1, 2):
            if fd not in script["fork"].get("keep", [1, 2]):
                os.close(fd)
        if script["fork"].get("session"):
            os.setsid()
        note({"type": os.path.basename(DIRECTORY), "state": "fork", "pid": os.getpid()}, "fork")
        time.sleep(script["fork"].get("seconds", 60))
        os._exit(0)
    if "stderr" in script:
        os.write(2, script["stderr"].encode())
    time.sleep(script.get("sleep", 0))
    answer = script.get("print")
    if answer is None:
        answer = json.dumps(script.get("result", {}))
    answer = fill(answer, payload)
    data = answer.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(1, data) :]
    left = script.get("flood", 0)
    block = b" " * 65536
    while left > 0:
        left -= os.write(1, block[:left])
    if script.get("close"):
        os.close(1)
        os.close(2)
    time.sleep(script.get("linger", 0))
    if "signal" in script:
        os.kill(os.getpid(), script["signal"])
    os._exit(script.get("exit", 0))


def environment():
    if HOSTED:  # /proc tells what the hook was started with
        return dict(os.environ)
    # Not os.environ: Python itself adds LC_CTYPE in the C locale.
    return dict(e.split("=", 1) for e in text("/proc/self/environ").split("\0")[:-1])


def fill(answer, payload):
    """Put what is true for this container in the place of {id}, {pid} and {path}."""
    values = {
        "id": payload.get("id", ""),
        "pid": str(payload.get("pid", "")),
        "path": payload.get("spec", {}).get("cgroupsPath", ""),
    }
    for name, value in values.items():
        answer = answer.replace("{" + name + "}", value)
    return answer


def directory(hierarchy, cgroup):
    """The directory of a cgroup of spec.cgroups."""
    for line in text("/proc/self/mounts").splitlines():
        _, mount, kind, options = line.split()[:4]
        names = set(hierarchy.split(","))
        if kind == "cgroup2" if hierarchy == "" else names <= set(options.split(",")):
            if os.path.isdir(mount + cgroup):
                return mount + cgroup
    raise SystemExit(f"no directory for {hierarchy}:{cgroup}")


def setting(payload, file):
    """The path of a control file in the container's present cgroup."""
    for hierarchy, cgroup in payload["spec"]["cgroups"].items():
        path = directory(hierarchy, cgroup) + "/" + file
        if os.path.exists(path):
            return path
    raise SystemExit("no control file " + file)


def membership(pid):
    try:
        lines = text(f"/proc/{pid}/cgroup").splitlines()
    except OSError:
        return None
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines}


def note(call, ending="call"):
    path = f"{DIRECTORY}/calls/{BEGIN:020}-{os.getpid()}.{ending}"
    with open(path + ".new", "w") as file:
        json.dump(call, file)
    os.rename(path + ".new", path)


def text(path):
    with open(path) as file:
        return file.read()


main()
