"""Where the bytes of logs are kept."""
