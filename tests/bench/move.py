"""What a move costs beyond writing the process into its new cgroups: carry, filter and view."""

from bench import measure, scenes

ROUNDS = 24
TARGET, HALF = 0.6, 0.3
INTERPRETER = "bare interpreter"
STAYS, BARE, WHOLE = "no move", "bare writes", "whole move"
CARRY = "bare writes and carry"
# Step -> what stands for its functions where it is left out, by module of nri_hook.cgroups. All
# modules are imported in every variant.
STEPS = {
    "carry": (
        "settings",
        {
            "look": "lambda directory: {}",
            "read": "lambda directory, names: {}",
            "inherited": "lambda *arguments: set()",
            "carry": "lambda *arguments: None",
            "own": "lambda *arguments: None",
        },
    ),
    "filter": (
        "devices",
        {
            "carry_list": "lambda *arguments: None",
            "carry_programs": "lambda *arguments: None",
        },
    ),
    "view": ("mounts", {"look": "lambda *arguments: Blind()"}),
}
# A view in which there is nothing to turn.
BLIND = """\
class Blind:
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
    turn = lambda self: None
"""
# What a launcher does to pass over what the plugin asks for.
IN_PLACE = """\
from nri_hook.hook.creation import Creation
assert callable(Creation._place)
Creation._place = lambda self, answer: "stays"
"""
# And to have every container be like the one before it: of one kind, {moves}.
ALIKE = """
from nri_hook.hook.record import Record
assert callable(Record.expects_move)
Record.expects_move = lambda self: {moves}
"""


def run():
    """Scene -> {variant: seconds of CPU of each hook}."""
    return {name: measured(runtime, ROUNDS) for name, runtime in scenes.all_scenes().items()}


def measured(runtime, rounds):
    """Variant -> seconds of CPU of the hook in each round."""
    moving = scenes.Moving(runtime)
    try:
        variants = {INTERPRETER: moving.interpreter}
        moving.add(STAYS, IN_PLACE + ALIKE.format(moves=False))
        for name, steps in (
            (BARE, STEPS),
            *((f"bare writes and {step}", set(STEPS) - {step}) for step in STEPS),
            (WHOLE, ()),
        ):
            moving.add(name, without(steps) + ALIKE.format(moves=True))
        for name in moving.bundles:
            variants[name] = lambda name=name: moving.create(name, moves=name != STAYS)
        return measure.in_turn(variants, rounds)
    finally:
        moving.close()


def without(steps):
    """What a launcher does to leave these steps out."""
    lines = [BLIND]
    for step in steps:
        module, functions = STEPS[step]
        lines.append(f"from nri_hook.cgroups import {module}")
        for name, other in functions.items():
            # Of another name by now it would not be left out.
            lines += [f"assert callable({module}.{name})", f"{module}.{name} = {other}"]
    return "\n".join(lines)


def more(found, variant=WHOLE, than=BARE):
    """By how many bare interpreters a variant is dearer than another one."""
    return measure.difference(found[variant], found[than]) / measure.middle(found[INTERPRETER])


def targets(scenes):
    """(what, limit, measured) of each target that this measurement decides."""
    for name, found in scenes.items():
        what = f"a move on {name}"
        yield f"{what}, more than its bare writes, x interpreter", TARGET, more(found)
        carry = more(found, CARRY, STAYS)
        yield f"{what}: bare writes and carry, more than no move, x interpreter", HALF, carry
        yield f"{what}: view and filter on top, x interpreter", HALF, more(found, WHOLE, CARRY)
