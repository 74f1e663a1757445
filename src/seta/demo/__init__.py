"""The main job, `seta demo`: real training runs, full and pruned, side by side.

`settings` says what to run, `data` and `files` what to run on, `net` and `train` how one run goes,
`display` what is seen meanwhile, `driver` puts them together and leaves rows, table and plot.
"""
