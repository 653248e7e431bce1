"""What can be deleted and comes back: caches, snapshots, catalogue, search, analytics, files beside a log."""
