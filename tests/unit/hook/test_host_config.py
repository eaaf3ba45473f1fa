"""The host configuration: which files, in which order, whose they must be, what they may say."""

import json
import os

import pytest

from nri_hook.errors import HookError
from nri_hook.hook import host_config
from nri_hook.validation import schema


@pytest.fixture
def directory(tmp_path):
    path = f"{tmp_path}/nri"
    os.mkdir(path, 0o755)
    return path


def write(directory, name, document, mode=0o644):
    """A file of the configuration; a list of types is what it names, bytes are what it holds."""
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if isinstance(document, list):
        document = {"version": "0.1", "plugins": [{"type": type} for type in document]}
    with open(path, "wb") as file:
        file.write(document if isinstance(document, bytes) else json.dumps(document).encode())
    os.chmod(path, mode)
    return path


def types(directory):
    return [entry.type for entry in host_config.load(directory)]


def refused(directory, path, message):
    with pytest.raises(HookError) as caught:
        host_config.load(directory)
    assert str(caught.value) == f"{path}: {message}"


# Which files


def test_none_is_no_plugin(directory, tmp_path):
    assert types(f"{tmp_path}/missing") == []
    assert types(directory) == []
    os.mkdir(f"{directory}/resource.d")
    assert types(directory) == []


def test_drop_ins_in_lexical_order(directory):
    for name in ("20-b", "10-a", "9", "A", "a", "10-a.old"):
        write(directory, f"resource.d/{name}.conf", [name])
    assert types(directory) == ["10-a", "10-a.old", "20-b", "9", "A", "a"]


def test_the_lists_of_all_drop_ins_are_joined(directory):
    write(directory, "resource.d/1.conf", ["a", "b"])
    write(directory, "resource.d/2.conf", {})
    write(directory, "resource.d/3.conf", {"version": "", "plugins": None})
    write(directory, "resource.d/4.conf", ["b", "a", "b"])
    assert types(directory) == ["a", "b", "b", "a", "b"]


def test_what_is_no_drop_in(directory):
    for name in ("a.json", "b.conf.bak", "c", ".d.conf", "e.CONF", ".conf", "f.conf~"):
        write(directory, f"resource.d/{name}", b"no JSON")
    assert types(directory) == []
    write(directory, "resource.d/g.conf", ["only"])
    assert types(directory) == ["only"]


def test_the_go_clients_file_serves_where_there_is_no_drop_in(directory):
    write(directory, "conf.json", ["go"])
    assert types(directory) == ["go"]
    write(directory, "resource.d/README", b"none yet")
    assert types(directory) == ["go"]
    path = write(directory, "resource.d/a.conf", ["drop-in"])
    assert types(directory) == ["drop-in"]
    os.unlink(path)
    os.unlink(f"{directory}/resource.d/README")
    os.rmdir(f"{directory}/resource.d")
    write(directory, "resource.d", b"a file")
    assert types(directory) == ["go"]


def test_a_drop_in_that_names_nothing_hides_the_go_clients_file(directory):
    write(directory, "conf.json", ["go"])
    write(directory, "resource.d/a.conf", {"plugins": []})
    assert types(directory) == []


def test_the_examples_of_the_schema_are_read(directory):
    for example in schema.load("host-configuration")["examples"]:
        write(directory, "conf.json", example)
        entries = host_config.load(directory)
        assert [entry.document for entry in entries] == (example.get("plugins") or [])


# What an entry says


def entry(directory, **keys):
    write(directory, "conf.json", {"plugins": [{"type": "a", **keys}]})
    (found,) = host_config.load(directory)
    return found


def test_an_entry_without_more(directory):
    found = entry(directory)
    assert (found.type, found.timeout, found.ignore, found.leave_parent) == (
        "a",
        None,
        False,
        False,
    )
    assert "conf" not in found.document


def test_our_additions(directory):
    found = entry(directory, timeout=2.5, onError="ignore", leaveParent=True)
    assert (found.timeout, found.ignore, found.leave_parent) == (2.5, True, True)
    found = entry(directory, timeout=1, onError="fail", leaveParent=False)
    assert (found.timeout, found.ignore, found.leave_parent) == (1, False, False)
    found = entry(directory, timeout=None, onError=None, leaveParent=None)
    assert (found.timeout, found.ignore, found.leave_parent) == (None, False, False)


def test_what_becomes_of_a_container_that_is_left(directory):
    for keys in ({}, {"onLeft": None}, {"onLeft": "start"}):
        assert not entry(directory, **keys).must_place
    assert entry(directory, onLeft="fail").must_place


def test_conf_is_kept_as_it_is(directory):
    for value in (None, 0, "", [], {}, {"a": [1, 1.0, 1e300, True, "é\ud800", {"": None}]}, 2**70):
        assert repr(entry(directory, conf=value).document["conf"]) == repr(value)


def test_case_does_not_count_in_the_keys(directory):
    """As in Go's decoder, for keys of ours too."""
    plugin = b'{"Type":"a","CONF":{"Conf":1},"Timeout":2,"onerror":"ignore","leaveparent":true}'
    write(directory, "conf.json", b'{"Version":"0.1","Plugins":[%s]}' % plugin)
    (found,) = host_config.load(directory)
    assert (found.type, found.timeout, found.ignore, found.leave_parent) == ("a", 2, True, True)
    assert found.document == {
        "type": "a",
        "conf": {"Conf": 1},
        "timeout": 2,
        "onError": "ignore",
        "leaveParent": True,
    }


def test_keys_that_nobody_knows_are_kept_and_ignored(directory):
    more = {"onEror": "ignore", "COMMENT": 1, "comment": 2}
    assert entry(directory, **more).document == {"type": "a", **more}
    assert not entry(directory, **more).ignore


def test_the_version(directory):
    for version in (None, "", "0.1", "0.1.0", "0.1.12"):
        write(directory, "conf.json", {"version": version, "plugins": [{"type": "a"}]})
        assert types(directory) == ["a"]
    for version in ("0.1.", "0.1.x", "0.1.1.1", "0.1.1\n", "0.10", "0.1-rc", "0.1.\u0661", 0.1, []):
        write(directory, "conf.json", {"version": version})
        with pytest.raises(HookError, match='/version: expected "0.1" or "0.1.N", found'):
            host_config.load(directory)


def test_the_name_of_a_plugin():
    for name in ("a", "0", "_", "A.b-c_9", "a.", "a-", "a..b", "x" * 300):
        assert host_config.is_type(name), name
    for name in ("", ".", "..", ".a", "-a", "../x", "a/b", "/a", "a/", "a b", "a\n", "\na", "a\0"):
        assert not host_config.is_type(name), name
    for name in ("é", "a\u0301", "\u0661", "\uff41", "a\u200b", None, 1, True, [], {"a": 1}):
        assert not host_config.is_type(name), name


# What is wrong with it


NAME = "a name of ASCII letters, digits, '.', '_' and '-' that starts with a letter, digit or '_'"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty, expected a JSON document"),
        (b'{"plugins": [', "no JSON value at character 13"),
        (b"{} {}", "more after the JSON document, at character 3"),
        (b'{"plugins":[],"plugins":[]}', "key 'plugins' appears twice in one object"),
        (b"[]", "document: expected an object, found []"),
        (b'{"version":"0.2"}', '/version: expected "0.1" or "0.1.N", found "0.2"'),
        (b'{"version":0.1}', '/version: expected "0.1" or "0.1.N", found 0.1'),
        (
            b'{"plugins":[],"Plugins":[{"type":"a"}]}',
            "/Plugins: the same key as 'plugins', expected one of the two",
        ),
        (
            b'{"plugins":[{"type":"a","Conf":1,"conf":2}]}',
            "/plugins/0/conf: the same key as 'Conf', expected one of the two",
        ),
        (
            b'{"Plugins":[{"Type":"a","ONERROR":"continue"}]}',
            '/plugins/0/onError: expected "fail" or "ignore", found "continue"',
        ),
        (b'{"plugins":{}}', "/plugins: expected a list, found {}"),
        (b'{"plugins":["a"]}', '/plugins/0: expected an object, found "a"'),
        (b'{"plugins":[{}]}', f"/plugins/0/type: expected {NAME}, found nothing"),
        (b'{"plugins":[{"type":"../x"}]}', f'/plugins/0/type: expected {NAME}, found "../x"'),
        (
            b'{"plugins":[{"type":"a"},{"type":"b","timeout":0}]}',
            "/plugins/1/timeout: expected a number of seconds above 0, found 0",
        ),
        (
            b'{"plugins":[{"type":"a","onError":"Ignore"}]}',
            '/plugins/0/onError: expected "fail" or "ignore", found "Ignore"',
        ),
        (
            b'{"plugins":[{"type":"a","leaveParent":1}]}',
            "/plugins/0/leaveParent: expected true or false, found 1",
        ),
        (
            b'{"plugins":[{"type":"a","onLeft":"stop"}]}',
            '/plugins/0/onLeft: expected "start" or "fail", found "stop"',
        ),
    ],
)
def test_the_line_names_the_file_and_the_place(directory, data, message):
    refused(directory, write(directory, "conf.json", data), message)
    write(directory, "resource.d/10.conf", ["fine"])
    refused(directory, write(directory, "resource.d/20.conf", data), message)


def test_a_timeout_can_be_waited_for(directory):
    """Written out in digits it may be more than any clock takes."""
    write(directory, "conf.json", b'{"plugins":[{"type":"a","timeout":1%s}]}' % (b"0" * 320))
    with pytest.raises(HookError, match=r"^.*/conf\.json: .*out of range"):
        host_config.load(directory)


def test_its_size_is_bounded(directory):
    path = write(directory, "conf.json", b"{}" + b" " * (host_config.MAX_SIZE - 2))
    assert types(directory) == []
    with open(path, "ab") as file:
        file.write(b" ")
    refused(directory, path, f"more than {host_config.MAX_SIZE} bytes")


# Whose it is


def test_one_bad_drop_in_among_good_ones(directory):
    write(directory, "resource.d/1.conf", ["a"])
    bad = write(directory, "resource.d/2.conf", ["b"], 0o646)
    write(directory, "resource.d/3.conf", ["c"])
    refused(directory, bad, "file 2.conf may be written by others (mode 0646)")


def test_a_link_to_another_place(directory, tmp_path):
    path = write(tmp_path, "elsewhere/real", ["linked"])
    os.symlink("../elsewhere/real", f"{directory}/conf.json")
    assert types(directory) == ["linked"]
    os.chmod(path, 0o666)
    refused(directory, f"{directory}/conf.json", "file real may be written by others (mode 0666)")
    os.unlink(path)
    refused(directory, f"{directory}/conf.json", "No such file or directory")


def test_no_regular_file_holds_the_hook(directory):
    os.mkfifo(f"{directory}/conf.json", 0o644)
    refused(directory, f"{directory}/conf.json", "expected a regular file")
    os.makedirs(f"{directory}/resource.d/a.conf")
    refused(directory, f"{directory}/resource.d/a.conf", "expected a regular file")
