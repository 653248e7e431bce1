"""Integrations: the store inside agents, MCP servers and agent frameworks. Each module imports its own framework."""
