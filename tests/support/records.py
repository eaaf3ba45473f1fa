"""Records of containers that are not there, for the tests of records."""

import os
import time

from nri_hook import strictjson
from nri_hook.hook import record, state_directory

ROOT = "/run/runc"
SOON = 10.0
DOCUMENT = {"id": "redis", "bundle": "/b", "pid": 0, "start": 0}


def soon():
    return time.monotonic() + SOON


def opened(directory, name="redis-00000000", deadline=None):
    return record.Record(directory, name, soon() if deadline is None else deadline)


def release(book):
    """What the end of the process does."""
    os.close(book.lock)


def write(directory, name, data):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else strictjson.dumps(data))
    return path


def kept(directory, id="redis", root=ROOT, **document):
    """Leave a record, as a hook that has ended."""
    book = opened(directory, state_directory.name(root, id))
    book.save({"id": id, "runtimeRoot": root, "bundle": "/b", "pid": 0, "start": 0, **document})
    release(book)
    return book.name


def find(options, id="redis", root="", bundle="/b"):
    book = record.find(options, root, id, bundle, soon())
    if book is None:
        return None
    release(book)
    return book.name
