"""State derived from the logs: caches, snapshots, catalogue, search, analytics, view files. All can be deleted and rebuilt."""
