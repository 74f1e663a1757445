"""Comparisons on the user's own training: `seta.compare`, and the parts that it is made of.

    contenders -> runner (trial: a run, its line) -> lines -> cells -> table, picture, verdict

Needs torch and scipy; rich to show progress, matplotlib for the picture.
"""
