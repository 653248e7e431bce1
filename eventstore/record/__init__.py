"""Lines: one event is one line. Nothing here opens a file or knows what an event means to a session."""
