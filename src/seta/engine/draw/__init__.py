"""Curve to selection: coins, the mask of an epoch, its order. Pure functions of seed and epoch."""
