"""What the documentation says is done as it is printed."""
