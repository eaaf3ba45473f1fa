"""A moved container and a native one, compared field by field, under every runtime."""
