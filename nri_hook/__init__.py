"""NRI 0.1 for runc, crun, podman and CRI-O: a plugin chain between create and start."""

__version__ = "0.1.0"
