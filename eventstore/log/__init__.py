"""Where lines live: bytes in, bytes out, no knowledge of what a session means."""
