"""SELinux: whether the files that a hook runs have a label that a runtime may execute."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from nri_hook.doctor.finding import OK, WARN, Finding

MOUNT = "/sys/fs/selinux"
XATTR = "security.selinux"
# Types whose files a runtime, in its domain, may run or load.
TYPES = ("bin_t", "lib_t", "usr_t", "container_runtime_exec_t", "shell_exec_t")


def check(paths: list[str], mount: str = MOUNT) -> Iterator[Finding]:
    """paths: launcher and plugins. mount: where selinuxfs is, if the kernel has it."""
    if not _has_policy(mount):
        yield Finding(OK, "SELinux", "not enabled")
        return
    wrong = 0
    for path in dict.fromkeys(paths):
        label = _label(path)
        if label.split(":")[2:3] not in [[type] for type in TYPES]:
            wrong += 1
            what = f"{path}: label {label or 'none'}, expected one of a type such as bin_t"
            quoted = shlex.quote(path)
            fix = f"semanage fcontext -a -t bin_t {quoted} && restorecon -v {quoted}"
            yield Finding(WARN, "SELinux", what, fix)
    if not wrong:
        yield Finding(OK, "SELinux", "enabled, and the labels of launcher and plugins fit")


def _has_policy(mount: str) -> bool:
    """Whether a policy is loaded; a kernel with SELinux that was given none judges by no label.

    Source: security/selinux/selinuxfs.c, which shows the classes of the policy.
    """
    try:
        return bool(os.listdir(os.path.join(mount, "class")))
    except OSError:
        return False


def _label(path: str) -> str:
    try:
        return os.getxattr(os.path.realpath(path), XATTR).rstrip(b"\0").decode("ascii", "replace")
    except OSError:
        return ""
