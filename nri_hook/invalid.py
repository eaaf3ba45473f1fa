"""A document failed a check: let its JSON Schema say where and why."""

from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def invalid(name: str, document: "Any", plugin: str = "", path: str = "") -> HookError:
    """The error for a `document` that is not what schemas/NAME.schema.json describes.

    The checks of the hot path are written by hand; jsonschema is loaded only here, to word it.
    """
    try:
        from nri_hook import schema

        reason = schema.explain(name, document)
    except (ImportError, OSError) as error:
        reason = f"is no valid {name} ({error})"
    return HookError(reason or f"is no valid {name}", plugin=plugin, path=path)
