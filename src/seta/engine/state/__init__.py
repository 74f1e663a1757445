"""Saving and resuming: what a state holds, its formats, and whether it is whole."""
