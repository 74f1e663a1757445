"""The main job, `seta demo`: real training runs, full and pruned, side by side.

`settings` says what to run, `data`, `files` and `cases` what to run on, `net` and `train` how one
run goes; `driver` puts them together and leaves tables, pictures and pages.
"""
