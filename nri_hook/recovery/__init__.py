"""What a record still needs after a hook that did not end its work."""
