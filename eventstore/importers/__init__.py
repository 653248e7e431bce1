"""Foreign transcripts as sessions: one file a format, and `transcript`, which does for all of them what is the same."""
