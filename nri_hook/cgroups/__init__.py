"""Control groups, v1, hybrid and v2: where a process is, and how to put it elsewhere whole."""
