"""Optional packages: found before they are needed, or missed with the command that installs them.

Above the engine every part needs packages that `pip install seta` does not bring. Such a package
is imported where it is used, after `require` has named all that are missing at once. Costs a look
at the import path per name; nothing is imported.
"""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MissingExtra", "blank_figure", "require"]

_DISTRIBUTIONS = {
    "PIL": "pillow",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
}


class MissingExtra(ImportError):
    """A package that this part of seta needs is not installed."""


def require(purpose: str, *modules: str, extra: str = "demo") -> None:
    """Check that optional packages can be imported.

    Args:
        purpose: What needs them; opens the message (`"seta demo"`).
        *modules: Import names (`"torch"`, `"sklearn"`).
        extra: The extra of seta that brings them.

    Raises:
        MissingExtra: Some are not installed; names all of them, and the command that installs them.
    """
    missing = [_DISTRIBUTIONS.get(name, name) for name in modules if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtra(
            f'{purpose} needs {names}, which {verb} not installed: pip install "seta[{extra}]"'
        )


def blank_figure(**options: Any) -> "Figure":
    """Returns an empty matplotlib figure, drawn without pyplot and without a display.

    Args:
        **options: Of `matplotlib.figure.Figure`.
    """
    _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure


def _import_matplotlib() -> None:
    """Import matplotlib whatever MPLBACKEND says.

    The import fails where the variable names a backend that is not installed. A notebook sets it
    for all processes that it starts, in environments without its backend too.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):  # not installed
            matplotlib.rcParams["backend"] = backend  # as the import would have set it
