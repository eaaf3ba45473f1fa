"""The bench measures what it says: a part of each of its measurements."""

import pytest
from bench import chain, crowd, doings, grace, hooks, move, page, parts, runs, scenes

pytestmark = pytest.mark.hostonly


@pytest.mark.parametrize("name", scenes.all_scenes())
def test_a_move_is_measured(name):
    found = move.measured(scenes.all_scenes()[name], rounds=2)
    least = {variant: min(seconds) for variant, seconds in found.items()}
    assert len(least) == 4 + len(move.STEPS)
    unit = least.pop(move.INTERPRETER)
    assert 0 < unit and all(unit < seconds < 1 for seconds in least.values()), least


def test_the_stages_are_measured():
    found = chain.run(rounds=1)
    cheap = chain.ratio(found, chain.NOTHING)
    assert 0 < cheap < 1 < chain.ratio(found, chain.EMPTY) < chain.ratio(found, chain.USUAL)


@pytest.mark.parametrize("name", runs.ROUNDS)
def test_whole_runs_are_measured(name):
    found = runs.measured(name, rounds=1)
    assert list(found) == list(hooks.ALL)
    assert all(wall > 0 and cpu > 0 for rounds in found.values() for wall, cpu in rounds)


@pytest.mark.parametrize("name", crowd.RUNTIMES)
def test_creates_at_once_are_measured(name):
    found = crowd.measured(name, 2, rounds=1)
    assert [len(one[2]) for rounds in found.values() for one in rounds] == [2] * len(hooks.FEW)


def test_the_grace_period_is_measured():
    found = [seconds for taken in grace.run(1).values() for seconds in taken]
    assert len(found) == 6 and all(0 < seconds < 1 for seconds in found)


def test_what_a_stage_does_is_counted():
    found = doings.run()
    bare = found[doings.INTERPRETER][""]
    assert found["3 native"]["createRuntime"]["processes"] == 3
    assert found["no configuration"]["poststop"]["calls"] < bare["calls"]
    assert bare["memory"] < found["1 hosted"]["createRuntime"]["memory"] < 10 * bare["memory"]


def test_the_page_is_written(tmp_path, monkeypatch):
    """From a run of everything that is as short as it can be."""
    monkeypatch.setattr(page, "PAGE", str(tmp_path / "page.md"))
    runtime = next(iter(scenes.all_scenes().items()))
    sections = {
        "versions": scenes.versions(),
        "language": "C",
        "quiet": {"cpus": 1, "load before": 0.0, "others": 0.0},
        "chain": chain.run(rounds=1),
        "parts": parts.run(rounds=1),
        "doings": doings.run(),
        "move": {runtime[0]: move.measured(runtime[1], rounds=2)},
        "runs": {"runc": runs.measured("runc", rounds=1)},
        "crowd": {"runc": {"2": crowd.measured("runc", 2, rounds=1)}},
        "grace": grace.run(1),
    }
    page.write(sections)
    text = (tmp_path / "page.md").read_text()
    assert text.count("\n## ") == 8 and "None" not in text
    for what, limit, _ in page.targets(sections):
        assert f"| {what} | {limit} | " in text


def test_every_missed_target_has_a_reason():
    """Of the measurements that are quick: whatever their numbers are."""
    names = [what for what, _, _ in doings.targets(doings.run())]
    names += [what for what, _, _ in chain.targets(chain.run(rounds=1))]
    for what in names:
        assert len([part for part in page.REASONS if part in what]) == 1, what
