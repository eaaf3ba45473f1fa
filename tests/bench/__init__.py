"""What the hook costs, measured in real runs: `make bench`, which writes docs/performance.md."""
