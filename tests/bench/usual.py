# The body of a hook as such hooks are usually written; chain.py puts a first line before it. It
# does what ours does for a container that is not moved: reads the state and config.json, checks
# both by their schemas, calls each plugin with a payload, checks the answers, keeps a record, logs.
import argparse
import json
import logging
import logging.handlers
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jsonschema

parser = argparse.ArgumentParser()
parser.add_argument("stage")
parser.add_argument("--plugin", action="append", default=[])
parser.add_argument("--schemas", type=Path, default=Path(SCHEMAS))  # noqa: F821, the first lines
arguments = parser.parse_args()
log = logging.getLogger("usual")
there = os.path.exists("/dev/log")
log.addHandler(logging.handlers.SysLogHandler("/dev/log") if there else logging.NullHandler())


def check(name, document):
    schema = json.loads((arguments.schemas / f"{name}.schema.json").read_text())
    jsonschema.validate(document, schema)


@dataclass
class Payload:
    state: str
    id: str
    pid: int
    spec: dict
    version: str = "0.1"
    results: list = field(default_factory=list)


state = json.load(sys.stdin)
check("state", state)
record = Path(state["bundle"]) / "usual.json"
if arguments.stage == "createRuntime":
    config = json.loads((Path(state["bundle"]) / "config.json").read_text())
    check("config", config)
    linux = config["linux"]
    spec = {key: linux.get(key) for key in ("resources", "cgroupsPath")}
    payload = Payload("create", state["id"], state["pid"], spec)
    plugins = arguments.plugin
elif arguments.stage == "poststop" and record.exists():
    payload = Payload(**json.loads(record.read_text()))
    payload.state = "delete"
    plugins = arguments.plugin[::-1]
else:
    sys.exit()
for plugin in plugins:
    done = subprocess.run(
        [plugin, "invoke"], input=json.dumps(asdict(payload)).encode(), capture_output=True
    )
    result = json.loads(done.stdout)
    check("result", result)
    payload.results.append(result)
record.write_text(json.dumps(asdict(payload)))
if arguments.stage == "poststop":
    record.unlink()
log.warning("stage=%s container=%s", arguments.stage, state["id"])
