"""The samples as executables, and their schemas."""

import json
import os
import subprocess
import sys

from jsonschema import Draft202012Validator

from support.tree import TOP


def call(type, state, conf=None, **spec):
    """The answer of a sample that is called as an executable, without a container."""
    payload = {"version": "0.1", "state": state, "id": "x", "spec": spec, "conf": conf}
    done = subprocess.run(
        [sys.executable, f"{TOP}/nri_hook/plugins/{type}.py", "invoke"],
        input=json.dumps(payload).encode(),
        env={**os.environ, "PYTHONPATH": TOP},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return json.loads(done.stdout)


def schema(type):
    with open(f"{TOP}/nri_hook/plugins/{type}.schema.json") as file:
        document = json.load(file)
    Draft202012Validator.check_schema(document)
    return document


def fits(type, conf):
    """Whether a conf is what the schema of the sample says."""
    return Draft202012Validator(schema(type)).is_valid(conf)
