"""Whether a document is what its JSON Schema says, and where not, in plain words."""
