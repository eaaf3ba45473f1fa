"""The cases of a table as parameters of a test."""

import pytest


def cases(table, everywhere=()):
    """Each case of the table, name -> values; only those that are named run in a guest too, where
    everything takes ten times as long."""
    return [
        pytest.param(*values, id=name, marks=() if name in everywhere else pytest.mark.hostonly)
        for name, values in table.items()
    ]
