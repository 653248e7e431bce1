"""`python -m eventstore.cli`."""

from eventstore.cli import program

if __name__ == "__main__":
    program()
