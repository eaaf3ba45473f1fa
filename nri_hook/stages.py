"""The stages, under the name that the launchers of nri-hook 0.1.0 import them by."""

from nri_hook.hook.stages import main

__all__ = ["main"]
