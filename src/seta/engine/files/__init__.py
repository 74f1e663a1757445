"""The file that a state is written to: whole or not at all, and checked when it is read."""
