"""What `nri-hook doctor` looks at: one module per thing, each gives findings."""
