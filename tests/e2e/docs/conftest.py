"""A test that table.py names has run all commands that it is named for."""

import os

import pytest

from docs import page, table


@pytest.hookimpl(trylast=True)  # after the test, which has not failed
def pytest_runtest_call(item):
    name = getattr(item, "originalname", item.name)
    test = f"{os.path.basename(item.location[0])}::{name}"
    assert set(table.of(test)) <= page.ran, f"not run: {set(table.of(test)) - page.ran}"
