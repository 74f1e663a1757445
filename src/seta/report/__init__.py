"""What a person looks at: results put together, tables, plots.

Reads rows, histograms and curves that a `Pruner` tells, and never reaches into it. `results` needs
the standard library alone; `tables` needs rich and `plots` and `figure` matplotlib, each imported
when something is drawn.
"""
