"""What a move costs beyond writing the process into its new cgroups: carry, filter and view."""

from bench import measure, scenes

ROUNDS = 16
TARGET = 0.6
INTERPRETER = "bare interpreter"
BARE, WHOLE = "bare writes", "whole move"
# Step -> what a launcher does to leave it out. All modules are imported in every variant.
WITHOUT = {
    "carry": """\
from nri_hook.cgroups import settings
settings.look = lambda folder: {}
settings.read = lambda folder, names: {}
settings.inherited = lambda *arguments: set()
settings.carry = settings.own = lambda *arguments: None
""",
    "filter": """\
from nri_hook.cgroups import devices
devices.carry_list = devices.carry_programs = lambda *arguments: None
""",
    "view": """\
from nri_hook.cgroups import view
view.turn = lambda *arguments: None
""",
}


def run():
    """Scene -> {variant: seconds of CPU of each hook}."""
    return {name: _scene(runtime) for name, runtime in scenes.all_scenes().items()}


def _scene(runtime):
    moving = scenes.Moving(runtime)
    try:
        moving.add(BARE, "".join(WITHOUT.values()))
        for step in WITHOUT:
            others = [change for name, change in WITHOUT.items() if name != step]
            moving.add(f"bare writes and {step}", "".join(others))
        moving.add(WHOLE, "")
        variants = {name: lambda name=name: moving.move(name) for name in moving.bundles}
        variants[INTERPRETER] = moving.interpreter
        return measure.in_turn(variants, ROUNDS)
    finally:
        moving.close()


def more(found):
    """By how many bare interpreters the whole move is dearer than the bare writes."""
    whole, bare, unit = (measure.middle(found[name]) for name in (WHOLE, BARE, INTERPRETER))
    return (whole - bare) / unit
