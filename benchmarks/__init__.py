"""What is measured, how, and `results/` with the figures and the machine they came from.

`python -m benchmarks` (or `make bench`) runs everything, prints a table of bars met and not met,
and writes one JSON file per benchmark. Absolute times belong to a machine; the bars are therefore
mostly ratios, of two things timed in turns in one process.
"""
