"""Optional packages: found before they are needed, or missed with the command that installs them.

Above the engine every part needs packages that `pip install seta` does not bring. Such a package
is imported where it is used, after `require` has named all that are missing at once. Costs a look
at the import path per name; nothing is imported.
"""

from importlib.util import find_spec

__all__ = ["MissingExtra", "require"]

_DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "vl_convert": "vl-convert-python"}


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
