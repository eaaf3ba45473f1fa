"""The table: a moved container is like a native one, but for what known.py says."""

import pytest
from support.scene import Scene

from fidelity import cells, compare, drama, environments
from fidelity.results import Results


class Plays:
    """Environment -> what came of all its cells of this session, which are played at once."""

    def __init__(self, items):
        params = [item.callspec.params for item in items if hasattr(item, "callspec")]
        self.cells = [p["cell"] for p in params if isinstance(p.get("cell"), cells.Cell)]
        self.done = {}

    def of(self, environment):
        if environment not in self.done:
            self.done[environment] = self._play(environment)
        if isinstance(self.done[environment], Exception):
            raise self.done[environment]
        return self.done[environment]

    def _play(self, environment):
        scene = Scene()
        try:
            wanted = [cell for cell in self.cells if cell.environment == environment]
            found = drama.play(scene, environment, wanted)
        except Exception as error:
            found = error
        try:
            left = scene.close()
        except OSError as error:
            left = [str(error)]
        if left and not isinstance(found, Exception):
            found = AssertionError("left behind:\n" + "\n".join(left))
        return found


@pytest.fixture(scope="module")
def plays(request):
    return Plays(request.session.items)


@pytest.fixture(scope="module")
def results():
    found = Results()
    yield found
    found.write()


CELLS = [cell for name in environments.names() for cell in cells.cells(name)]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_moved_container_is_like_a_native_one(cell, plays, results):
    found = compare.compare(cell, **plays.of(cell.environment)[cell])
    results.add(cell, found)
    assert not found.unexplained, found.text()
    assert not found.stale, f"known differences that do not occur: {found.stale}"
