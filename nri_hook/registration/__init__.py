"""What makes an engine call us: engines, hook files and their rules, the launcher."""
