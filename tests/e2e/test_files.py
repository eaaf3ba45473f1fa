"""Files that are read, replaced and removed as root in directories of a stranger, who does there
what he likes in between: it leads to nothing that is not his."""

import os
import stat

import pytest
from support.users import as_user

from nri_hook import atomicfile
from nri_hook.errors import HookError

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.once,
]

STRANGER = 65321


class Home:
    """A stranger's directory with a `bundle` of his, and root's own `private` beside it."""

    def __init__(self, directory):
        self.directory = f"{directory}/home"
        self.private = f"{directory}/private"
        for path in (self.directory, self.private):
            os.mkdir(path)
        os.chown(self.directory, STRANGER, STRANGER)
        self.path = f"{self.directory}/bundle/config.json"
        self.secret = f"{self.private}/config.json"
        with open(self.secret, "w") as file:
            file.write("root's")
        self.do(lambda: self.make("bundle"))

    def do(self, function):
        """Do it as the stranger."""
        as_user(STRANGER, function)

    def make(self, name, text="his"):
        os.mkdir(f"{self.directory}/{name}")
        with open(f"{self.directory}/{name}/config.json", "w") as file:
            file.write(text)

    def swap(self, make_another):
        """Put another `bundle` in the place of the first, which is `old` from then on."""

        def swap():
            os.rename(f"{self.directory}/bundle", f"{self.directory}/old")
            make_another()

        self.do(swap)

    def link(self):
        os.symlink(self.private, f"{self.directory}/bundle")

    def text(self, name):
        with open(f"{self.directory}/{name}/config.json") as file:
            return file.read()


@pytest.fixture
def home(scene):
    home = Home(scene.directory)
    yield home
    with open(home.secret) as file:
        assert file.read() == "root's"
    assert os.listdir(home.private) == ["config.json"]


def refused(why, function, *args):
    with pytest.raises(HookError, match=why) as caught:
        function(*args)
    return caught.value


def test_a_file_keeps_its_owner(home):
    found = atomicfile.read(home.path)
    atomicfile.write(home.path, b"new", 0o600, found)
    status = os.stat(home.path)
    assert (status.st_uid, status.st_gid) == (STRANGER, STRANGER)
    assert stat.S_IMODE(status.st_mode) == found.mode
    assert home.text("bundle") == "new"
    assert os.listdir(f"{home.directory}/bundle") == ["config.json"]


def test_a_link_is_not_followed(home):
    home.swap(home.link)
    for function in (atomicfile.read, atomicfile.load, atomicfile.remove):
        refused(f"link bundle belongs to uid {STRANGER}", function, home.path)
    refused("link bundle belongs to uid", atomicfile.write, home.path, b"new", 0o644)


def test_a_directory_that_became_a_link_after_it_was_read(home):
    found = atomicfile.read(home.path)
    home.swap(home.link)
    refused("link bundle belongs to uid", atomicfile.write, home.path, b"new", 0o644, found)
    refused("link bundle belongs to uid", atomicfile.remove, home.path, found)
    assert home.text("old") == "his"


def test_a_directory_that_became_another(home):
    """Whatever is there now was not looked at."""
    found = atomicfile.read(home.path)
    home.swap(lambda: home.make("bundle", "another"))
    refused("was replaced while we were at work", atomicfile.write, home.path, b"new", 0o644, found)
    refused("was replaced while we were at work", atomicfile.remove, home.path, found)
    assert (home.text("old"), home.text("bundle")) == ("his", "another")


def test_a_file_that_has_gone(home):
    found = atomicfile.read(home.path)
    home.do(lambda: os.unlink(home.path))
    refused("was replaced while we were at work", atomicfile.write, home.path, b"new", 0o644, found)
    assert atomicfile.remove(home.path) is False
    assert atomicfile.read(home.path) is None and atomicfile.load(home.path) is None


def test_directories_are_made_past_no_link(home):
    """0755, whatever the umask is."""
    umask = os.umask(0o077)
    try:
        atomicfile.write(f"{home.directory}/a/b/config.json", b"new", 0o644)
    finally:
        os.umask(umask)
    for name in ("a", "a/b"):
        assert stat.S_IMODE(os.stat(f"{home.directory}/{name}").st_mode) == 0o755
    home.do(lambda: os.symlink(home.private, f"{home.directory}/link"))
    path = f"{home.directory}/link/new/config.json"
    refused("link link belongs to uid", atomicfile.write, path, b"new", 0o644)


def test_a_link_of_roots_is_followed(home):
    """/var/run, say."""
    os.symlink(f"{home.directory}/bundle", f"{home.private}/link")
    try:
        path = f"{home.private}/link/config.json"
        atomicfile.write(path, b"new", 0o644, atomicfile.read(path))
        assert home.text("bundle") == "new"
        assert atomicfile.remove(path)
    finally:
        os.unlink(f"{home.private}/link")


def test_a_link_in_the_place_of_the_file_itself(home):
    """Replaced or removed would be the link. Read is what root's own link leads to."""
    os.unlink(home.path)
    os.symlink(home.secret, home.path)
    refused("expected a regular file", atomicfile.read, home.path)
    assert atomicfile.load(home.path) == b"root's"
    os.lchown(home.path, STRANGER, STRANGER)
    refused("link config.json belongs to uid", atomicfile.load, home.path)
