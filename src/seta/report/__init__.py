"""What a person looks at: the page of a run, its keep curves in a picture, its plan as text.

Reads states, histograms and curves that a `Pruner` tells, and never reaches into it. `page` needs
the extra `inspect`, `curves` matplotlib and `plan` rich, each imported when something is shown.
"""

from seta.report.inspection.make import page as page

__all__ = ["page"]
