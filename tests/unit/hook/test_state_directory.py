"""What records are called, and that none is taken for that of another container."""

import binascii
import os
import re

import pytest
from support.records import DOCUMENT, ROOT, find, kept, opened, release, soon, write

from nri_hook.errors import HookError
from nri_hook.hook import container_log, oci, record, state_directory


def test_a_name_says_the_id_and_depends_on_the_root():
    names = {state_directory.name(root, "redis") for root in (ROOT, "/run/crun", "", "/run/runc/")}
    assert len(names) == 4
    assert all(re.fullmatch(r"redis-[0-9a-f]{8}", name) for name in names)
    assert state_directory.name(ROOT, "redis") == state_directory.name(ROOT, "redis")
    # Where the two are put together it must still be clear which is which.
    assert state_directory.name("/a", "b")[-8:] != state_directory.name("/a\0b", "")[-8:]


def test_a_long_id_makes_a_name_that_a_filesystem_takes(options, directory):
    ids = ["x" * 1024, "x" * 1023 + "y"]
    assert state_directory.name(ROOT, ids[0]) != state_directory.name(ROOT, ids[1])
    names = [kept(directory, id) for id in ids]
    assert [find(options, id) for id in ids] == names
    assert [find(options, id, ROOT) for id in ids] == names
    for name in (*names, state_directory.setup_name(ids[0])):
        write(directory, name + container_log.CUT, b"")


# Two ids of one beginning for which CRC-32, with runc's root before them, is the same.
TWINS = ["x" * 200 + ending for ending in ("008ddf9", "2008894")]


def test_two_long_ids_never_have_one_name(options, directory):
    """Neither would be found where the other is: one's create would end the other."""
    former = {former_name(id) for id in TWINS}
    assert len(former) == 1
    for name_of in (lambda id: state_directory.name(ROOT, id), state_directory.setup_name):
        assert len({name_of(id) for id in TWINS}) == 2
    # No id can be made that looks like what stands for another.
    assert "~" in state_directory.name(ROOT, TWINS[0]) and not oci.is_id("~")


def former_name(id, root=ROOT):
    """What nri-hook 0.1.0 called a record."""
    return f"{id[:200]}-{binascii.crc32(os.fsencode(root) + bytes(1) + id.encode()):08x}"


@pytest.mark.parametrize("id", ["redis", "y" * 200, TWINS[0]], ids=len)
def test_a_record_of_0_1_0_is_found_for_its_end(options, directory, id):
    document = {"id": id, "runtimeRoot": ROOT, "bundle": "/b", "pid": 0, "start": 0}
    write(directory, f"{former_name(id)}.json", document)
    assert find(options, id) == find(options, id, ROOT) == former_name(id)
    write(directory, f"{id[:200]}-setup.json", document)
    book = record.find_setup(options, id, soon())
    assert book.document == document
    book.remove()
    release(book)
    # One of this version goes before: the other is of a container before, and gc's.
    name = kept(directory, id)
    assert find(options, id, ROOT) == name == state_directory.name(ROOT, id)


def test_a_record_of_0_1_0_of_another_container_is_not_taken(options, directory):
    document = {"id": TWINS[0], "runtimeRoot": ROOT, "bundle": "/b", "pid": 0, "start": 0}
    write(directory, f"{former_name(TWINS[1])}.json", document)
    write(directory, f"{TWINS[1][:200]}-setup.json", document)
    assert find(options, TWINS[1]) is find(options, TWINS[1], ROOT) is None
    assert record.find_setup(options, TWINS[1], soon()) is None
    assert find(options, TWINS[0], ROOT) == former_name(TWINS[0])


def test_the_record_of_another_container_under_our_name(options, directory):
    """By whatever accident: it is not ended, not written over, and told of."""
    name = state_directory.name(ROOT, "redis")
    path = write(directory, f"{name}.json", dict(DOCUMENT, id="other", runtimeRoot=ROOT))
    write(directory, f"{state_directory.setup_name('redis')}.json", dict(DOCUMENT, id="other"))
    said = f"^{re.escape(path)}: is the record of container 'other', expected redis$"
    with pytest.raises(HookError, match=said):
        find(options, root=ROOT)
    with pytest.raises(HookError, match=said):
        record.open_or_none(options, name, "redis", soon(), [])
    with pytest.raises(HookError, match="is the record of container 'other', expected redis"):
        record.find_setup(options, "redis", soon())
    assert find(options) is None
    release(opened(directory, name, 0))  # nobody holds it
    assert record.read(path)["id"] == "other"


def test_a_root_that_is_no_text(directory, options):
    root = os.fsdecode(b"/r\xff")
    name = kept(directory, root=root)
    assert find(options, root=root) == name


def test_the_checksum_in_a_name():
    every = os.fsdecode(bytes(range(1, 256)))
    for root, id in (("/run/runc", "a"), ("", "x" * 200), (f"/é/{every}", "0.-_+")):
        checksum = binascii.crc32(os.fsencode(root) + b"\0" + id.encode())
        assert state_directory.name(root, id) == f"{id}-{checksum:08x}"
        assert state_directory.setup_name(id) == f"{id}-setup"
