"""How well `Pruner.suspects` finds labels made wrong, beside cleanlab on the same runs."""
