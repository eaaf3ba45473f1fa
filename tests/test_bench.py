"""The bench measures what it says: a part of each of its measurements."""

import pytest
from bench import move, scenes

pytestmark = pytest.mark.hostonly


@pytest.mark.parametrize("name", scenes.all_scenes())
def test_a_move_is_measured(name):
    found = move.measured(scenes.all_scenes()[name], rounds=2)
    least = {variant: min(seconds) for variant, seconds in found.items()}
    assert len(least) == 3 + len(move.STEPS)
    unit = least.pop(move.INTERPRETER)
    assert 0 < unit and all(unit < seconds < 1 for seconds in least.values()), least
