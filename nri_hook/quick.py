"""Fast imports, under the name that the launchers of nri-hook 0.1.0 import them by."""

from nri_hook.fastimport import install

__all__ = ["install"]
