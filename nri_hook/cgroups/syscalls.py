"""System calls that Python 3.9 has no function for, by number through the C library.

Every function raises OSError. The numbers of calls added since Linux 5.1 are the same on every
machine. libc.py is imported at the first call: most containers need none.
"""

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nri_hook.cgroups.libc import Memory

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND = 32, 1024, 2048, 4096
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME = 1 << 21
MNT_DETACH = 2
CLONE_NEWNS = 0x00020000

OPEN_TREE, MOVE_MOUNT, OPENAT2, MOUNT_SETATTR = 428, 429, 437, 442
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
STATX_MNT_ID, STATX_ATTR_MOUNT_ROOT = 0x1000, 0x2000

# bpf(2) differs by machine (kernel, arch/*/tools/syscall.tbl, scripts/syscall.tbl).
BPF = {
    **{"x86_64": 321, "i686": 357, "ppc64le": 361, "s390x": 351, "armv7l": 386},
    **dict.fromkeys(("aarch64", "riscv64", "loongarch64"), 280),
}


def memory(data: bytes) -> "Memory":
    """Bytes that the kernel may write to; `data` is what they are at first."""
    from nri_hook.cgroups import libc

    return libc.Memory(data)


def u32(*numbers: int) -> bytes:
    """Numbers of 32 bits, as a C structure has them."""
    return b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)


def u64(*numbers: int) -> bytes:
    """Numbers of 64 bits, as a C structure has them."""
    return b"".join(number.to_bytes(8, sys.byteorder) for number in numbers)


def bpf(command: int, attributes: "Memory") -> int:
    """bpf(2)."""
    machine = os.uname().machine
    if machine not in BPF:  # ENOSYS would say that the kernel has no such programs
        raise OSError(errno.EOPNOTSUPP, f"the number of bpf(2) on {machine} is not known")
    return _syscall(BPF[machine], command, attributes.address, attributes.size)


def open_tree(path: str) -> int:
    """A detached copy of the mount at `path`, whose root is `path` (open_tree(2))."""
    return _syscall(
        OPEN_TREE, AT_FDCWD, os.fsencode(path), OPEN_TREE_CLONE | os.O_CLOEXEC, path=path
    )


def move_mount(tree: int, target: int) -> None:
    """Attach a mount, wherever it was, on what `target` is open on (move_mount(2))."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _syscall(MOVE_MOUNT, tree, b"", target, b"", flags)


def open_in_root(root: int, path: str) -> int:
    """Open what is at `path` below `root` with O_PATH; no link is followed, nothing leads out
    (openat2(2))."""
    how = memory(
        u64(
            os.O_PATH | os.O_CLOEXEC,
            0,
            RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        )
    )
    return _syscall(OPENAT2, root, os.fsencode(path), how.address, how.size, path=path)


def mount_of(fd: int) -> "tuple[int, bool]":
    """The id of the mount that `fd` is on, and whether it is open on its root (statx(2), Linux
    5.8)."""
    found = memory(bytes(256))
    _call("statx", fd, b"", AT_EMPTY_PATH, STATX_MNT_ID, found.address)
    if not found.u32(0) & STATX_MNT_ID:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return found.u64(144), bool(found.u64(8) & STATX_ATTR_MOUNT_ROOT)


def set_propagation(tree: int, kind: int) -> None:
    """Give a detached mount another propagation type (mount_setattr(2), Linux 5.12)."""
    attributes = memory(u64(0, 0, kind, 0))
    arguments = (b"", AT_EMPTY_PATH, attributes.address, attributes.size)
    try:
        _syscall(MOUNT_SETATTR, tree, *arguments)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        mount(f"/proc/self/fd/{tree}", kind)  # which some newer kernels refuse for a detached one


def setns(namespace: int, kind: int) -> None:
    """Join a namespace (setns(2))."""
    _call("setns", namespace, kind)


def mount(target: str, flags: int) -> None:
    """Change what is mounted at `target` (mount(2), with a remount or propagation flag)."""
    _call("mount", None, os.fsencode(target), None, flags, None, path=target)


def unmount(target: str) -> None:
    """Detach what is mounted at `target` (umount2(2))."""
    _call("umount2", os.fsencode(target), MNT_DETACH, path=target)


def _syscall(number: int, *arguments: "Any", path: str = "") -> int:
    return _call("syscall", number, *arguments, path=path)


def _call(name: str, *arguments: "Any", path: str = "") -> int:
    from nri_hook.cgroups import libc

    return libc.call(name, arguments, path)
