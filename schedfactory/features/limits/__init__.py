"""Bounds on what runs and starts, over all nodes: by task, by key and by queue."""
