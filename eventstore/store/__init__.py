"""One store: its registry, the state of its sessions, lists, trash and retention."""
