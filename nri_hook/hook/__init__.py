"""The hot path: what runs at every container start of the node."""
