"""Logs in PostgreSQL. Importing a module of this package needs psycopg: the extra `postgres`."""
