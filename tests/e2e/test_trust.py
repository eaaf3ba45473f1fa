"""What runs as root must be root's alone: files, directories and links on the way to them."""

import os
import re
import shutil
import socket
import stat
import tempfile

import pytest
from support.users import as_user, in_user_namespace

from nri_hook import trust
from nri_hook.errors import HookError

STRANGER = 12345
USER = 23456


class Tree:
    """A directory in which files and directories are made with these owners and modes."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def make(self, name, mode=0o644, uid=0, text="text"):
        """A file, and the directories above it, root's with 0755 where they are not there."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chown(path, uid, 0)
        os.chmod(path, mode)
        return path

    def make_directory(self, name, mode=0o755, uid=0):
        path = self.path(name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, 0)
        os.chmod(path, mode)
        return path

    def link(self, name, target, uid=0):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.symlink(target, path)
        os.lchown(path, uid, 0)
        return path

    def give(self, uid):
        """Make all of it another's."""
        for directory, _, names in os.walk(self.directory):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                os.lchown(path, uid, uid)


@pytest.fixture
def tree(scene):
    return Tree(scene.directory)


def by_directory(path):
    """The same where the directory is looked at first, as for several files in it."""
    directory, _, name = path.rpartition("/")
    return trust.Directory(directory or "/").open_file(name)


def opened(path):
    """The text of the file, which the descriptor stands at the start of, opened both ways; or what
    both raise."""
    by_path, in_directory = (_outcome(way, path) for way in (trust.open_file, by_directory))
    if isinstance(by_path, Exception):
        assert type(in_directory) is type(by_path)
        assert not isinstance(by_path, HookError) or in_directory.args == by_path.args
        raise by_path
    assert in_directory == by_path
    return by_path


def _outcome(way, path):
    try:
        fd = way(path)
    except (HookError, OSError) as error:
        return error
    try:
        assert os.fstat(fd).st_ino == os.stat(path).st_ino
        assert not os.get_inheritable(fd)
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


def refused(path, *words):
    """It is refused, with a line that has these words and the path that was asked for."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HookError) as caught:
        opened(path)
    assert caught.value.path == path
    for word in words:
        assert word in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_only_root_may_write(tree):
    for mode in (0o644, 0o600, 0o755, 0o555, 0o640, 0o604, 0o4755, 0o1644):
        assert opened(tree.make("a/b/file", mode)) == "text"


def test_a_file_that_others_may_write(tree):
    for mode in (0o664, 0o646, 0o666, 0o622, 0o620, 0o602, 0o777, 0o1666):
        path = tree.make("a/name", mode)
        refused(path, f"file name may be written by others (mode {mode:04o})")


@pytest.mark.parametrize("directory", ["a", "a/b", "a/b/c"])
def test_a_directory_above_that_others_may_write(tree, directory):
    path = tree.make("a/b/c/file")
    for mode in (0o775, 0o757, 0o777, 0o722, 0o770, 0o2775):
        tree.make_directory(directory, mode)
        name = os.path.basename(directory)
        refused(path, f"directory {name} may be written by others (mode {mode:04o})")
    tree.make_directory(directory, 0o2755)
    assert opened(path) == "text"


def test_the_group_may_read(tree):
    path = tree.make("a/file", 0o640)
    os.chown(path, 0, STRANGER)
    os.chown(os.path.dirname(path), 0, STRANGER)
    assert opened(path) == "text"


def test_a_sticky_directory_above_is_fine_but_not_at_once(tree):
    inner, outer = tree.make("sticky/a/file"), tree.make("sticky/file")
    tree.make_directory("sticky", 0o1777)
    assert opened(inner) == "text"
    refused(outer, "directory of this file may be written by others")


def test_in_a_sticky_directory_everything_must_be_roots(tree):
    path = tree.make("sticky/a/file")
    tree.make_directory("sticky", 0o1777)
    tree.make_directory("sticky/a", uid=STRANGER)
    refused(path, "directory a belongs to uid 12345, expected root")


def test_another_owner(tree):
    refused(tree.make("a/file", uid=STRANGER), "file file belongs to uid 12345, expected root")
    for directory in ("b", "b/c"):
        path = tree.make("b/c/file")
        tree.make_directory(directory, uid=STRANGER)
        refused(
            path, f"directory {os.path.basename(directory)} belongs to uid 12345, expected root"
        )
        tree.make_directory(directory)
    assert opened(path) == "text"


def test_links_to_what_is_safe(tree):
    path = tree.make("a/b/file")
    for target in (path, "b/file", "./b/.//file", "../a/b/../b/file", f"/..{path}"):
        link = tree.link("a/link", target)
        assert opened(link) == "text"
        os.unlink(link)


def test_a_link_to_a_directory(tree):
    tree.make("a/b/file")
    tree.link("c/d/link", "../../a/b")
    tree.link("c/absolute", tree.path("a"))
    assert opened(tree.path("c/d/link/file")) == "text"
    assert opened(tree.path("c/absolute/b/file")) == "text"
    # The directory above the link's target, as for the kernel, not the one above the link.
    assert opened(tree.path("c/d/link/../b/file")) == "text"
    with pytest.raises(FileNotFoundError):
        opened(tree.path("c/d/link/../d/link/file"))


def test_a_link_to_what_others_may_write(tree):
    tree.make("a/file", 0o666)
    refused(tree.link("b/link", "../a/file"), "file file may be written by others")
    tree.make("open/file")
    tree.make_directory("open", 0o777)
    refused(tree.link("b/directory", "../open/file"), "directory open may be written by others")
    tree.link("b/inner", "../open")
    refused(tree.path("b/inner/file"), "directory open may be written by others")
    tree.make("c/file")
    refused(tree.link("b/through", "../open/../c/file"), "directory open may be written by others")


def test_a_link_of_another_owner(tree):
    path = tree.make("a/file")
    refused(tree.link("b/link", path, STRANGER), "link link belongs to uid 12345, expected root")
    tree.link("c/directory", "../a", STRANGER)
    refused(tree.path("c/directory/file"), "link directory belongs to uid 12345, expected root")


def test_a_link_in_a_sticky_directory(tree):
    path = tree.make("a/file")
    tree.link("sticky/link", path)
    tree.link("sticky/directory", "../a")
    tree.make_directory("sticky", 0o1777)
    refused(tree.path("sticky/link"), "directory of this file may be written by others")
    assert opened(tree.path("sticky/directory/file")) == "text"


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_chain_of_links(tree, length):
    tree.make("a/0")
    for number in range(length):
        tree.link(f"a/{number + 1}", str(number))
    assert opened(tree.path(f"a/{length}")) == "text"
    tree.make("b/open", 0o666)
    os.unlink(tree.path("a/1"))
    tree.link("a/1", "../b/open")
    refused(tree.path(f"a/{length}"), "file open may be written by others")


def test_too_many_links(tree):
    tree.make("a/0")
    for number in range(41):
        tree.link(f"a/{number + 1}", str(number))
    refused(tree.path("a/41"), "too many symbolic links")
    refused(tree.link("b/self", "self"), "too many symbolic links")
    tree.link("c/one", "two")
    refused(tree.link("c/two", "one"), "too many symbolic links")
    tree.link("d/inner", "inner/inner")
    refused(tree.path("d/inner"), "too many symbolic links")


def test_a_link_to_a_directory_in_the_place_of_the_file(tree):
    tree.make_directory("a/directory")
    for number, target in enumerate((".", "..", "/", "../a", "directory", "directory/")):
        refused(tree.link(f"a/{number}", target), "expected a")


def test_no_regular_file(tree):
    tree.make_directory("a")
    os.mkfifo(tree.path("a/fifo"), 0o644)
    refused(tree.path("a/fifo"), "expected a regular file")
    refused(tree.make_directory("a/directory"), "expected a regular file")
    refused("/", "expected a regular file")
    refused("/dev/null", "expected a regular file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(tree.path("a/socket"))
        with pytest.raises((HookError, OSError)):
            opened(tree.path("a/socket"))


def test_what_is_not_there(tree):
    tree.make("a/b/file")
    tree.link("dangling", "missing/file")
    before = os.listdir("/proc/self/fd")
    for name in ("missing", "missing/file", "a/b/missing", "dangling"):
        with pytest.raises(FileNotFoundError):
            opened(tree.path(name))
    assert os.listdir("/proc/self/fd") == before


def test_a_file_in_the_place_of_a_directory(tree):
    tree.make("a")
    for name in ("a/b", "a/.."):
        with pytest.raises(NotADirectoryError):
            opened(tree.path(name))


def test_a_directory_in_a_directory(tree):
    tree.make("a/b/file")
    outer = trust.Directory(tree.path("a"))
    fd = outer.inner("b").open_file("file")
    assert os.read(fd, 100) == b"text"
    os.close(fd)
    tree.make_directory("a/open", 0o757)
    tree.make_directory("a/sticky", 0o1777)
    tree.make_directory("a/other", uid=STRANGER)
    tree.link("a/link", "b")
    for name, why in (
        ("open", "directory open may be written by others"),
        ("sticky", "the directory of this file may be written by others"),
        ("other", f"directory other belongs to uid {STRANGER}"),
    ):
        with pytest.raises(HookError, match=why) as caught:
            outer.inner(name)
        assert caught.value.path == tree.path(f"a/{name}")
    for name in ("link", "missing", "b/file"):
        with pytest.raises(OSError):
            outer.inner(name)


def test_a_user_is_trusted_by_himself_alone(tree):
    path = tree.make("a/file")
    tree.give(USER)
    assert as_user(USER, lambda: opened(path)) == "text"
    refused(path, f"belongs to uid {USER}, expected root")
    for owner in (0, STRANGER):
        os.chown(path, owner, owner)
        if owner == 0:
            assert as_user(USER, lambda: opened(path)) == "text"
        else:
            with pytest.raises(HookError, match="file file belongs to uid 12345"):
                as_user(USER, lambda: opened(path))


def test_a_user_cannot_open_what_he_may_not_read(tree):
    path = tree.make("a/file", 0o600)
    with pytest.raises(PermissionError):
        as_user(USER, lambda: opened(path))


def test_whether_it_is_a_user_namespace():
    assert not trust.in_user_namespace()
    assert not as_user(USER, trust.in_user_namespace)
    assert in_user_namespace(USER, trust.in_user_namespace)


def test_in_a_user_namespace_the_users_own_files_pass(tree):
    path = tree.make("a/file")
    tree.give(USER)
    assert in_user_namespace(USER, lambda: opened(path)) == "text"
    os.chmod(path, 0o666)
    with pytest.raises(HookError, match="file file may be written by others"):
        in_user_namespace(USER, lambda: opened(path))


@pytest.fixture
def make_tree():
    """A function that makes a tree in a directory of root's, closed to others as all above it."""
    made = []

    def make(above):
        made.append(tempfile.mkdtemp(prefix="nri-test-", dir=above))
        os.chmod(made[-1], 0o755)
        return Tree(made[-1])

    yield make
    for directory in made:
        shutil.rmtree(directory)


@pytest.mark.parametrize("above", ["/etc", "/opt", "/usr"])
def test_in_a_user_namespace_the_hosts_system_passes(make_tree, above):
    """Root's files look like those of any other unmapped user there."""
    system = make_tree(above)
    path, link = system.make("a/file"), system.link("b/link", "../a")
    assert in_user_namespace(USER, lambda: opened(path)) == "text"
    assert in_user_namespace(USER, lambda: opened(f"{link}/file")) == "text"
    # Of what lies in / itself, such as the link /bin, nobody else can have made anything.
    assert in_user_namespace(USER, lambda: os.close(trust.open_file("/bin/sh"))) is None


@pytest.mark.parametrize("owner", [0, STRANGER])
def test_in_a_user_namespace_everybody_else_s_files_are_a_stranger_s(make_tree, owner):
    """Elsewhere the host's root cannot be told from anybody."""
    elsewhere = make_tree("/run")
    path = elsewhere.make("a/file")
    os.chown(path, owner, owner)
    os.chown(elsewhere.path("a"), owner, owner)
    said = "the directory of this file belongs to uid 65534, expected our own, or a path of root's"
    with pytest.raises(HookError, match=f"^{path}: {said} alone below /etc, /opt or /usr$"):
        in_user_namespace(USER, lambda: opened(path))
    os.chown(elsewhere.path("a"), USER, USER)
    with pytest.raises(HookError, match="file file belongs to uid 65534, expected our own"):
        in_user_namespace(USER, lambda: opened(path))
    os.chown(path, USER, USER)  # which lies in a directory of the other
    assert in_user_namespace(USER, lambda: opened(path)) == "text"


def test_in_a_user_namespace_a_link_of_a_stranger_leads_nowhere(make_tree):
    system, elsewhere = make_tree("/opt"), make_tree("/run")
    path = system.make("a/file")
    link = elsewhere.link("link", path)
    os.chown(elsewhere.directory, USER, USER)
    with pytest.raises(HookError, match="link link belongs to uid 65534, expected our own"):
        in_user_namespace(USER, lambda: opened(link))
    os.lchown(link, USER, USER)
    assert in_user_namespace(USER, lambda: opened(link)) == "text"
    # Nor does one of root's make a stranger's file root's.
    other = elsewhere.make("a/file", uid=STRANGER)
    for name, target in (("direct", other), ("directory", elsewhere.path("a"))):
        system.link(name, target)
    for path in (system.path("direct"), system.path("directory/file"), f"/usr/..{other}"):
        with pytest.raises(HookError, match="the directory of this file belongs to uid 65534"):
            in_user_namespace(USER, lambda path=path: opened(path))


def test_in_a_user_namespace_the_hosts_files_must_be_closed_to_others(make_tree):
    system = make_tree("/opt")
    path = system.make("a/file", 0o646)
    with pytest.raises(HookError, match="file file may be written by others"):
        in_user_namespace(USER, lambda: opened(path))
    path = system.make("open/file")
    system.make_directory("open", 0o775)
    with pytest.raises(HookError, match="directory open may be written by others"):
        in_user_namespace(USER, lambda: opened(path))
    path = system.make("sticky/a/file")
    system.make_directory("sticky", 0o1777)
    with pytest.raises(HookError, match=r"directory a belongs to uid 65534, expected our own"):
        in_user_namespace(USER, lambda: opened(path))


@pytest.mark.parametrize("owner", [0, STRANGER])
@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_in_a_user_namespace_unmapped_owners_below_a_sticky_directory(tree, what, owner):
    """The tree lies in /tmp, where any stranger can make what looks like root's there."""
    assert os.stat("/tmp").st_mode & stat.S_ISVTX
    path = tree.make("a/file")
    link = tree.link("b/link", "../a/file")
    tree.give(USER)
    bad = {"file": path, "directory": os.path.dirname(path), "link": link}[what]
    os.lchown(bad, owner, owner)
    with pytest.raises(HookError, match=rf"^{re.escape(link)}: {what} \w+ belongs to uid \d+"):
        in_user_namespace(USER, lambda: opened(link))
    os.lchown(bad, USER, USER)
    assert in_user_namespace(USER, lambda: opened(link)) == "text"


def test_an_absolute_path_leads_where_the_path_does(tree, monkeypatch):
    """Only what no link can precede loses its "..": os.path.abspath() would lead elsewhere."""
    tree.make("elsewhere/file", text="right")
    tree.make("file", text="wrong")
    tree.make_directory("elsewhere/inner")
    tree.link("link", "elsewhere/inner")
    monkeypatch.chdir(tree.path("link"))
    for path, absolute in {
        tree.path("link/../file"): tree.path("link/../file"),
        "../file": tree.path("elsewhere/file"),
        ".//../file": tree.path("elsewhere/file"),
        "../inner/../file": tree.path("elsewhere/inner/../file"),
    }.items():
        assert trust.absolute(path) == absolute
        assert opened(absolute) == "right"
    for path, absolute in {"/": "/", "//a/": "/a", "/../a/./b": "/a/b", "/..": "/"}.items():
        assert trust.absolute(path) == absolute
    assert trust.absolute("") == trust.absolute(".") == tree.path("elsewhere/inner")
    assert trust.absolute("x" + "/.." * 3) == tree.path("elsewhere/inner/x/../../..")
