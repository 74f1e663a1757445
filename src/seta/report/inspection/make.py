"""`seta.report.page`: a page of a run, from a pruner, a loader or their states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seta.engine.files import writing
from seta.extras import require
from seta.report.inspection.classes import Classes, classes_of
from seta.report.inspection.facts import facts_of
from seta.report.inspection.items import Items, Show, labels_in, length_of, names_in
from seta.report.inspection.states import states_of

NEEDED = ("jinja2", "vl_convert", "PIL")


def page(
    run: Any,
    dataset: Any = None,
    *,
    path: Path | str,
    classes: Any = None,
    names: Sequence[str] | None = None,
    show: Show | None = None,
    title: str = "What the run knows of its samples",
    moment: str | None = None,
) -> Path:
    """Writes a page on a run: one HTML file that needs no network and no server.

    Everything is counted, so that the page stays small and opens at once for any number of samples.
    Of the data set some 600 items are loaded.

    Args:
        run: A pruner or a loader, what `state_dict()` or `seta.load()` returned, or a list of the
            states of all ranks, where each had a part.
        dataset: The data set that was trained on: `dataset[index]` is the sample of that index, an
            image, a text, token ids, a sound, or a tuple or dict of it and its label. None: samples
            are shown by their index.
        path: Where the page is written to.
        classes: (n,) integers or texts, the class of each sample. By default those that the data
            set has as a whole (`targets`, `labels`, the tensors of a TensorDataset, a column
            `label`).
        names: Of the classes, by number. By default those of the data set (`classes`).
        show: Makes of an item what is shown of it: an image, a text, an array. For token ids a
            tokenizer's decode, say.
        title: Of the page.
        moment: When the state is from, as text; None: the page does not say.

    Returns:
        The path.

    Raises:
        MissingExtra: A package is not installed; names the command that installs it.
        ValueError: A state is damaged, or classes or data set do not fit the run.
        OSError: The page cannot be written.
    """
    return Inspection(dataset, classes=classes, names=names, show=show, title=title).write(
        run, path, moment=moment
    )


class Inspection:
    """Writes the pages of one run, again and again: items of the data set are loaded once.

    Args:
        dataset: See `page`, and so are the others.
        classes: Likewise.
        names: Likewise.
        show: Likewise.
        title: Likewise.
    """

    def __init__(
        self,
        dataset: Any = None,
        *,
        classes: Any = None,
        names: Sequence[str] | None = None,
        show: Show | None = None,
        title: str,
    ) -> None:
        require("a page of a run", *NEEDED, extra="inspect")
        if show is not None and not callable(show):
            raise TypeError(
                f"show must be a function that makes of an item what is shown of it, got {show!r}"
            )
        self._dataset, self._given = dataset, classes
        self._names = [] if names is None else [str(name) for name in names]
        self._show, self._title = show, title
        self._items: Items | None = None
        self._classes: Classes | None = None
        self._n = 0

    def write(self, run: Any, path: Path | str, *, moment: str | None = None) -> Path:
        """Writes a page, whole or not at all; see `page`."""
        from seta.report.inspection.content import content_of
        from seta.report.inspection.render import html_of

        facts = facts_of(states_of(run))
        self._look(facts.n)
        content = content_of(
            facts, classes=self._classes, items=self._items, title=self._title, moment=moment
        )
        text = html_of(content).encode(errors="replace")
        writing.whole(path, text)
        return Path(path)

    def _look(self, n: int) -> None:
        """Looks at the data set, again where it has another length than before.

        Raises:
            ValueError: It is not of the length of the run.
        """
        if n == self._n:
            return
        dataset = self._dataset
        length = length_of(dataset)
        if length is not None and length != n:
            raise ValueError(
                f"dataset must be the one that was trained on, of {n:,} samples, got one of "
                f"{length:,}"
            )
        self._classes = self._classes_of(n)
        if dataset is not None:
            self._items = Items(dataset, self._names or names_in(dataset), self._show)
        self._n = n

    def _classes_of(self, n: int) -> Classes | None:
        """Returns the classes: those that were given, or else those of the data set."""
        dataset, given = self._dataset, self._given
        known = None if dataset is None else labels_in(dataset, n)
        if given is None:
            if known is None:
                return None
            try:
                return classes_of(known, n, self._names or names_in(dataset))
            except ValueError:  # labels that are no classes, such as a number for each sample
                return None
        found = classes_of(given, n, self._names)
        if self._names or (known is not None and not np.array_equal(found.of, known)):
            return found  # those of the data set are the names of other classes
        return classes_of(given, n, names_in(dataset))
