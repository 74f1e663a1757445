"""What a person looks at: the keep curves of a run in a picture, and the plan of a run as text.

Reads histograms and curves that a `Pruner` tells, and never reaches into it. `curves` needs
matplotlib and `plan` rich, each imported when something is shown.
"""
