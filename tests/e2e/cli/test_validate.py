"""`nri-hook validate`: every error of a file, with its place, in one go."""

import glob
import json
import os

import pytest
from support.node import command
from support.tree import DATA, TOP
from unit.validation.test_schema import README_CONFIGURATION, README_INPUT, README_OUTPUT

# Mostly about text, and a guest takes seconds for each command.
pytestmark = pytest.mark.hostonly

SCHEMA = {
    "type": "object",
    "required": ["cpus"],
    "additionalProperties": False,
    "properties": {
        "cpus": {"type": "array", "items": {"$ref": "#/$defs/cpu"}},
        "mode": {"enum": ["fast", "slow"], "x-expected": '"fast" or "slow"'},
        "name": {"type": "string", "minLength": 2},
    },
    "$defs": {"cpu": {"type": "integer", "minimum": 0}},
}
HOOK_FILE = {
    "version": "1.0.0",
    "hook": {"path": "/bin/true"},
    "when": {"always": True},
    "stages": ["createRuntime"],
}


@pytest.fixture
def write(scene):
    """Write a file, as text or as a document; its path."""

    def write(document, name="file"):
        path = f"{scene.directory}/{name}"
        with open(path, "w") as file:
            file.write(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def well_formed(path, kind, *args):
    done = command("validate", *args, path).check()
    assert (done.out, done.err) == (f"{path}: well-formed {kind}\n", "")


def errors(done):
    """The lines about errors of a run that has found some."""
    assert (done.status, done.err) == (1, "")
    return [line for line in done.out.splitlines() if ": note: " not in line]


# What a file is


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("host-configuration", README_CONFIGURATION),
        ("payload", README_INPUT),
        ("result", README_OUTPUT),
        ("result", '{"plugin": "x", "version": "0.1", "error": ""}'),
        ("state", '{"ociVersion": "1.0.2", "id": "a", "pid": 1}'),
        ("hook-file", json.dumps(HOOK_FILE)),
    ],
)
def test_the_content_tells_what_it_is(write, kind, text):
    path = write(text)
    for args in ([], ["--as", kind]):
        done = command("validate", *args, path).check()
        assert done.out.endswith(f"{path}: well-formed {kind}\n") and done.err == ""


def test_real_documents():
    for path in glob.glob(f"{DATA}/*.json"):
        well_formed(path, "state" if path.endswith("-state.json") else "config")
    for name in os.listdir(f"{TOP}/hooks.d"):
        done = command("validate", f"{TOP}/hooks.d/{name}").check()
        assert done.out.endswith("well-formed hook-file\n")


def test_what_nobody_can_tell(write):
    path = write("{}")
    text = command("validate", path).refused()
    assert text.startswith(f"nri-hook validate: {path}: cannot be told from its content, expected")
    assert "--as KIND with it, one of host-configuration, payload, result, state" in text
    well_formed(path, "result", "--as", "result")


# Errors


def test_all_errors_of_all_files_in_one_go(write):
    one = write({"version": "0.2", "plugins": [{"type": "../x"}, {"type": "a", "timeout": 0}]}, "1")
    two = write({"version": "0.1", "state": "later", "pid": "1", "cgroupsPath": []}, "2")
    three = write('{\n "plugins": [}', "3")
    found = errors(command("validate", one, two, three))
    assert found[:3] == [
        f'{one}: /version: expected "0.1" or "0.1.N", found "0.2"',
        f"{one}: /plugins/0/type: expected a name of ASCII letters, digits, '.', '_' and '-' that "
        """starts with a letter, digit or '_', found "../x\"""",
        f"{one}: /plugins/1/timeout: expected a number of seconds above 0, found 0",
    ]
    assert {line.partition(": expected")[0] for line in found[3:6]} == {
        f"{two}: /state",
        f"{two}: /pid",
        f"{two}: /cgroupsPath",
    }
    assert found[6] == (
        f"{three}: document: expected JSON, found none: Expecting value, at line 2 column 14"
    )
    assert len(found) == 7


def test_payloads_states_and_hook_files(write):
    payload = dict(json.loads(README_INPUT), pid=0, labels={"a": 1})
    assert errors(command("validate", write(payload, "p"))) == [
        f"{write(payload, 'p')}: /pid: expected a process id; absent or -1 if there is no process, "
        "found 0",
        f"{write(payload, 'p')}: /labels/a: expected a string, found 1",
    ]
    path = write({"ociVersion": "1.0", "pid": -1, "bundle": "/b"})
    assert [line.split(": ")[1] for line in errors(command("validate", path))] == ["/id", "/pid"]
    path = write(dict(HOOK_FILE, stages=["now"], when={"commands": ["[", "("]}))
    places = [line.split(": ")[1] for line in errors(command("validate", path))]
    assert places == ["/when/commands/0", "/when/commands/1", "/stages/0"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"plugins": NaN}', "NaN is not a JSON number"),
        ('{"a": 1, "a": 2}', "key 'a' appears twice in one object"),
        ("", "Expecting value, at line 1 column 1"),
        ("{}{}", "Extra data, at line 1 column 3"),
    ],
)
def test_what_the_hook_would_not_read(write, text, found):
    path = write(text)
    line = f"{path}: document: expected JSON, found none: {found}"
    assert errors(command("validate", path)) == [line]


def notes(done):
    """What is no error."""
    return [line.partition(": note: ")[2] for line in done.out.splitlines() if ": note: " in line]


def test_every_key_that_is_not_read_as_it_stands(write):
    entry = {
        "Type": "clearcfs",
        "onEror": "ignore",
        "leaveparent": True,
        "note": 1,
        "Conf": {"classes": []},
    }
    path = write({"Plugins": [entry], "verison": "0.1"}, "configuration")
    done = command("validate", path).check()
    assert done.out.endswith(f"{path}: well-formed host-configuration\n")
    assert [note for note in notes(done) if "was not looked into" not in note] == [
        "/Plugins: read as plugins",
        "/verison: ignored: not a key that nri-hook reads; did you mean version?",
        "/plugins/0/Type: read as type",
        "/plugins/0/onEror: ignored: not a key that nri-hook reads; did you mean onError?",
        "/plugins/0/leaveparent: read as leaveParent",
        "/plugins/0/note: ignored: not a key that nri-hook reads",
        "/plugins/0/Conf: read as conf",
    ]
    path = write({"Error": "NO", "cgroupPath": "/x", "a/~\n": 1, "metadata": {"x": "y"}}, "result")
    done = command("validate", path).check()
    assert notes(done) == [
        "/Error: read as error",
        "/cgroupPath: ignored: not a key that nri-hook reads; did you mean cgroupsPath?",
        r"/a~1~0\n: ignored: not a key that nri-hook reads",
    ]
    document = json.loads(command("validate", "--json", path).check().out)
    assert document["files"][0]["notes"][0] == "/Error: read as error"


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"error": "", "Error": "NO"}, "/Error: the same key as 'error'"),
        ({"plugins": [{"type": "a", "Conf": 1, "conf": 1}]}, "/plugins/0/conf: the same key as"),
    ],
)
def test_keys_that_are_the_same_but_for_case(write, document, found):
    (line,) = errors(command("validate", write(document)))
    assert f": document: expected each key once, found {found}" in line


def test_a_file_that_cannot_be_read(write):
    good = write(README_OUTPUT)
    done = command("validate", "/proc/no-such", good, "/")
    assert done.status == 1
    assert done.out == f"{good}: well-formed result\n"
    assert done.err.splitlines() == [
        "nri-hook validate: /proc/no-such: cannot be read: No such file or directory",
        "nri-hook validate: /: expected a regular file",
    ]


def test_what_strangers_wrote_stays_one_line(write):
    path = write({"plugins": [{"type": "a\n\x1b[31m"}], "x\n": 1})
    done = command("validate", path)
    assert len(errors(done)) == 1 and "\x1b" not in done.out


def test_json(write):
    bad, good = write({"plugins": 1}, "bad"), write(README_OUTPUT, "good")
    done = command("validate", "--json", bad, good, "/proc/no-such")
    assert done.status == 1 and done.err == ""
    document = json.loads(done.out)
    assert document["files"] == [
        {
            "file": bad,
            "kind": "host-configuration",
            "errors": [{"pointer": "/plugins", "found": "1", "expected": "a list"}],
            "notes": [],
        },
        {"file": good, "kind": "result", "errors": [], "notes": []},
    ]
    assert document["unread"] == ["/proc/no-such: cannot be read: No such file or directory"]


# The configuration that the hook reads, and the conf of plugins


@pytest.fixture
def configured(node):
    """The node's own configuration with a plugin that has a schema; what is said of its conf."""
    node.plugin("limited")
    with open(f"{node.plugin_dir}/limited.schema.json", "w") as file:
        json.dump(SCHEMA, file)

    def check(*entries):
        path = node.configure(*entries)
        done = command("validate", *node.options())
        assert done.err == ""
        if done.status == 0:
            assert f"{path}: well-formed host-configuration\n" in done.out
            return []
        return [line[len(path) + 2 :] for line in errors(done)]

    return check


def test_conf_by_the_schema_of_the_plugin(configured):
    assert configured({"type": "limited", "conf": {"cpus": [0, 1], "mode": "fast"}}) == []
    assert configured("limited") == ["/plugins/0/conf/cpus: expected a list, found nothing"]
    plain = {"type": "limited", "conf": {"cpus": []}}
    bad = {"cpus": [0, -1, "2"], "mode": "x", "name": "a", "a/b": 1}
    found = configured(plain, *({"type": "limited", "conf": conf} for conf in (bad, [])), plain)
    assert sorted(found) == [
        "/plugins/1/conf/a~1b: expected no such key, found 1",
        "/plugins/1/conf/cpus/1: expected minimum 0, found -1",
        '/plugins/1/conf/cpus/2: expected an integer, found "2"',
        '/plugins/1/conf/mode: expected "fast" or "slow", found "x"',
        '/plugins/1/conf/name: expected minLength 2, found "a"',
        "/plugins/2/conf: expected an object, found []",
    ]


def test_every_file_of_a_directory(node):
    node.plugin("limited")
    good = node.configure("limited", file="resource.d/10.conf")
    bad = node.configure({"type": "limited", "onError": 1}, file="resource.d/20.conf")
    done = command("validate", *node.options())
    assert errors(done) == [
        f"{good}: well-formed host-configuration",
        f'{bad}: /plugins/0/onError: expected "fail" or "ignore", found 1',
    ]


def test_no_configuration(node):
    done = command("validate", *node.options()).check()
    assert done.out == f"{node.conf_dir}: no configuration, so no plugin is called\n"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "there is no "),
        ("{", "JSON"),
        ("[]", "expected an object"),
        ('{"type": "nothing"}', "is not a JSON Schema: /type: "),
        ('{"$ref": "https://host/x.json"}', 'is not a JSON Schema: "$ref" https://host/x.json'),
        ('{"$ref": "#/none"}', "is not a JSON Schema: "),
    ],
)
def test_a_schema_that_is_none_is_said(node, schema, reason):
    """Not an error of the configuration, but nobody shall take it for checked."""
    node.plugin("odd")
    if schema is not None:
        with open(f"{node.plugin_dir}/odd.schema.json", "w") as file:
            file.write(schema)
    path = node.configure({"type": "odd", "conf": {"a": 1}})
    done = command("validate", *node.options()).check()
    note = f"{path}: note: /plugins/0: the conf of odd was not looked into: "
    assert [line for line in done.out.splitlines() if line.startswith(note) and reason in line]


def test_a_plugin_that_is_not_there_is_said(node):
    path = node.configure({"type": "ghost", "conf": 1})
    done = command("validate", *node.options(), path).check()
    note = f"{path}: note: /plugins/0: the conf of ghost was not looked into: plugin ghost: not f"
    assert note in done.out


@pytest.mark.parametrize("args", [["--as", "result"], ["--as", "nothing", "x"], ["--timeout", "x"]])
def test_wrong_usage(args):
    done = command("validate", *args)
    assert done.status == 2 and "Traceback" not in done.err
