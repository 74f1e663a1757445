"""Losses to curve: histogram, difficulty groups, keep curve, fitted to a count. Pure functions."""
