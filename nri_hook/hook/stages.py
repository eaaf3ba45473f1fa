"""One function per OCI stage: the whole story, top-down."""

import _signal  # type: ignore[import-not-found]
import os
import time

# What only some stages need, these import themselves: a module costs as much as forty system calls.
from nri_hook import strictjson
from nri_hook.errors import INTERNAL, REGISTERED_TWICE, HookError, Left, UsageError
from nri_hook.hook import host_config, oci, options, record, runtimes, state_directory
from nri_hook.hook.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Seconds that poststop waits for the last processes of a container to leave its cgroup.
PATIENCE = 3.0


def precreate(flags: options.Options, stdin: bytes, report: Report) -> None:
    """precreate (podman): the chain gets `setup`; the cgroup it asks for goes into the config.

    Prints the config always, byte for byte where nothing is to be changed. Raises HookError, with
    everything undone and nothing printed.
    """
    deadline = time.monotonic() + flags.timeout
    entries = host_config.load(flags.conf_dir)
    if not entries:
        _print(stdin)
        return
    from nri_hook.hook.chain import Chain
    from nri_hook.hook.creation import Creation, check_may_start
    from nri_hook.hook.precreate import Draft

    draft = Draft(stdin)
    if not draft.id:  # no plugin can be asked
        check_may_start(Left("its config has no cgroupsPath"), entries)
        _print(stdin)
        return
    report.id = draft.id
    report.source = draft.cgroups_path
    request = draft.request()
    name = state_directory.setup_name(draft.id)
    book = record.open_or_none(flags, name, draft.id, deadline, report)
    report.record = (book.directory, book.name)
    chain = Chain(entries, flags.plugin_path())
    creation = Creation(draft, request, chain, book, report)
    creation.finish_former(deadline)
    creation.run(deadline)
    report.succeed(creation.outcome)
    _print(draft.config)


def create_runtime(flags: options.Options, stdin: bytes, report: Report) -> None:
    """createRuntime: the chain gets `create`, then the container is moved where it asks.

    Raises HookError, with everything undone.
    """
    deadline = time.monotonic() + flags.timeout
    entries = host_config.load(flags.conf_dir)
    if not entries:
        return
    from nri_hook.hook.chain import Chain
    from nri_hook.hook.container import Container
    from nri_hook.hook.creation import Creation

    state = oci.read_state(stdin)
    report.id = state.id
    container = Container(state)
    report.source = container.cgroups_path
    request = container.request()
    name = state_directory.name(container.caller.root, state.id)
    book = record.open_or_none(flags, name, state.id, deadline, report)
    report.record = (book.directory, book.name)
    if container.is_of(book.document) and book.document["outcome"] != "chain":
        reason = "called twice for one container: the hook is registered twice"
        report.note(reason, REGISTERED_TWICE)
        report.succeed(book.document["outcome"])
        return
    meanwhile = None
    if book.expects_move():  # which would have to wait
        from nri_hook.cgroups.grace import Grace

        meanwhile = Grace().renew
    chain = Chain(entries, flags.plugin_path(), meanwhile)
    creation = Creation(container, request, chain, book, report)
    creation.finish_former(deadline)
    former = record.find_setup(flags, state.id, deadline) if book.name else None
    if former:
        creation.take_over(former, deadline)
    creation.run(deadline)
    book.expect_move(creation.outcome == "moved")
    report.succeed(creation.outcome)


def poststart(flags: options.Options, stdin: bytes, report: Report) -> None:
    """poststart: the runtime's own record is told where its container went.

    Raises HookError where that record stays as it is; exec, pause and the like then miss.
    """
    deadline = time.monotonic() + flags.timeout
    state = oci.read_state(stdin)
    report.id = state.id
    root = runtimes.caller().root
    book = record.find_to_adopt(flags, root, state.id, state.bundle, deadline)
    if book is None or book.document["outcome"] != record.TO_ADOPT:
        return
    from nri_hook.hook import adoption

    report.record = (book.directory, book.name)
    report.source = report.target = book.document["cgroupsPath"]
    report.succeed(adoption.adopt(book, report))


def poststop(flags: options.Options, stdin: bytes, report: Report) -> None:
    """poststop: the chain gets `delete`, then what the move made is removed.

    Without a record there is nothing to do: it was called before, or the create had failed.
    Raises HookError where something is left; the record stays then.
    """
    deadline = time.monotonic() + flags.timeout
    state = oci.read_state(stdin)
    report.id = state.id
    caller = runtimes.caller()
    book = record.find(flags, caller.root, state.id, state.bundle, deadline)
    if book is None:
        return
    # runc calls us after a create that was refused because a container of that id is there.
    if caller.creates_another(book.document) and not record.is_gone(book.document):
        return
    from nri_hook.hook import deletion

    report.record = (book.directory, book.name)
    report.source = book.document["cgroupsPath"]
    errors = deletion.finish(book.document, deadline, PATIENCE, report)
    deletion.forget(book.document)
    if errors:
        raise HookError("; ".join(map(str, errors)), code=errors[0].code)
    book.remove()
    report.succeed("removed")


STAGES = {
    "precreate": precreate,
    "createRuntime": create_runtime,
    "poststart": poststart,
    "poststop": poststop,
}
# The runtimes kill a container when its poststart fails, and engines take the failure of poststop
# for one of the container: these are logged and end with 0.
NEVER_FAIL = ("poststart", "poststop")


def main(argv: "list[str]") -> "NoReturn":
    """Run the stage argv[1] with the flags after it, and exit: with 0, with 1 where the
    container must not start, with 2 for wrong usage."""
    stage = argv[1] if len(argv) > 1 else ""
    report = Report(stage)
    flags, stdin = options.Options(), b""
    status = 1
    try:
        _settle()
        if stage not in STAGES:
            raise UsageError(f"unknown stage {stage!r}, expected one of {', '.join(STAGES)}")
        flags = options.parse(argv[2:])
        stdin = _read_stdin()
        STAGES[stage](flags, stdin, report)
        status = 0
    except UsageError as error:
        report.fail(str(error))
        status = 2
    except HookError as error:
        report.fail(str(error), error.code)
        status = 0 if stage in NEVER_FAIL else 1
    except KeyboardInterrupt:
        report.fail("interrupted")
        status = 0 if stage in NEVER_FAIL else 1
    except Exception as error:
        report.fail(f"a bug in nri-hook: {type(error).__name__}: {error}", INTERNAL)
        status = 0 if stage in NEVER_FAIL else 1
    finally:
        try:
            if report.outcome:
                _keep(report, flags, stdin)
        finally:
            os._exit(status)


def _keep(report: Report, flags: options.Options, stdin: bytes) -> None:
    """Write down what was said in the container's log, if that can be had."""
    from nri_hook.hook import container_log

    try:
        if not report.record[1] and report.outcome == "failed":
            report.record = _whose(report, flags, stdin)
        if report.record[1] and report.outcome == "failed":
            from nri_hook.hook import log_space

            log_space.make_room(report.record[0])
        container_log.append(report)
    except HookError:  # nobody knows whose it is, or there is no state directory
        pass
    except Exception as error:
        what = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        report.warn(f"no log of this is kept: {report.record[0]}: {what}")


def _whose(report: Report, flags: options.Options, stdin: bytes) -> "tuple[str, str]":
    """Directory and name of the record of a stage that failed before it had one. Raises
    HookError."""
    if report.stage == "precreate":
        from nri_hook.hook.precreate import Draft

        report.id = report.id or Draft(stdin).id
        name = state_directory.setup_name(report.id) if report.id else ""
    else:
        report.id = report.id or oci.read_state(stdin).id
        name = state_directory.name(runtimes.caller().root, report.id)
    return state_directory.make(flags), name


def _settle() -> None:
    """Undo what callers do to us: crun blocks all signals and clears the umask, runc's poststop
    lets descriptors of its own caller through."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    os.umask(0o077)
    while True:  # a plugin's pipe must never become one of the standard three
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            break
        os.set_inheritable(fd, True)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    os.chdir("/")


def _print(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _read_stdin() -> bytes:
    """All of stdin, before anything else: crun writes it in one go and waits. Raises HookError."""
    try:
        return strictjson.read(0, oci.MAX_CONFIG)
    except (strictjson.JSONError, OSError) as error:
        raise HookError(str(error), path=oci.STATE) from None
