"""Calls in a child of ours: as another user, or as a user in a user namespace of its own."""

import ctypes
import os
import pickle

import pytest

CLONE_NEWUSER = 0x10000000
PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def as_user(uid, function):
    """What `function` returns, or raises, as this user, who is in no group but his own."""
    return in_child(function, lambda: _become(uid))


def in_user_namespace(uid, function):
    """The same where the user is 0 in a new user namespace, and everybody else is unmapped, as
    under rootless podman. Skips the test where the kernel gives users no such namespaces."""

    def enter():
        _become(uid)
        # Without this what is in /proc/self belongs to root.
        _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if _libc.unshare(CLONE_NEWUSER):
            raise _NoNamespace(os.strerror(ctypes.get_errno()))
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {uid} 1"),
        ):
            with open(f"/proc/self/{file}", "w") as output:
                output.write(text)

    try:
        return in_child(function, enter)
    except _NoNamespace as error:
        pytest.skip(f"no user namespace can be had: {error}")


class _NoNamespace(Exception):
    pass


def _become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def in_child(function, enter=lambda: None):
    """What `function` returns, or raises, in a child of ours that has called `enter` before."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                enter()
                answer = (True, function())
            except BaseException as error:
                answer = (False, error)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value
