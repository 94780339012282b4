"""What a process has one of: its background loop, logs, database connections, per-loop objects."""
