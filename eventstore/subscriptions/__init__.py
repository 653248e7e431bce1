"""Subscriptions: events that were committed, then those that are committed from now on."""
