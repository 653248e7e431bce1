"""Following logs from a position."""
