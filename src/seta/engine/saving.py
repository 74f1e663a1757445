"""The state dict of a pruner: made of its parts, and loaded back into them.

A loaded state overwrites the loss table in place, since a second table might not fit into memory.
So `load` checks the whole state first, and makes all that can fail, before it writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from seta.engine import arguments
from seta.engine.core import Core
from seta.engine.curves.policy import Policy, method_of, stored_by, takes_signals
from seta.engine.lifecycle import digests, open_epoch
from seta.engine.open_epoch import OpenEpoch, Weights
from seta.engine.rows import copied
from seta.engine.run import Run, Tally
from seta.engine.settings import Settings
from seta.engine.state.checked import check
from seta.engine.state.curves import unpack_curve
from seta.engine.state.formats import name_of
from seta.engine.state.parts import part_of, parts_of
from seta.engine.table import tracked
from seta.engine.table.exchange import digest_of, equally_long
from seta.engine.table.table import Reopened, State

logger = logging.getLogger(__name__)

_TALLIED = ("trained", "nonfinite", "seconds")
"""The fields of the tally that a state in mid-epoch holds."""


def state_of(core: Core, *, done: int, begun: bool, gather: bool, copy: bool) -> dict[str, Any]:
    """Returns the state; see `Pruner.state_dict`."""
    run, settings = core.collect(), core.settings
    opened = run.open
    arguments.done(done, None if opened is None else opened.epoch, opened.kept if opened else 0)
    begun = opened is not None and (begun or bool(done) or run.any_trained)
    what, compared = None, [0, 0]
    if opened is not None and begun:
        compared = digests(core, opened)
        what = f"state_dict() in epoch {opened.epoch}" if gather else None
        if settings.ranks is not None and what is not None and settings.sharding == "replicated":
            done = int(equally_long(settings.ranks, np.array([done]), what)[:, 0].min())
    saved_epoch = None if opened is None else _epoch_state(core, run, opened, done, begun)
    part = part_of(settings.ranks, settings.sharding, whole=opened is None or gather)
    table = core.table.state_dict(what, compared, copy)
    trace = core.trace
    return {
        "format": name_of("pruner"),
        "settings": settings.identity(),
        "run": {"history": [copied(row) for row in core.history], "full": run.full},
        "table": {**part, **table},
        "trace": None if trace is None else trace.state_dict(run.begun, opened=opened is not None),
        "open": saved_epoch,
    }


def _epoch_state(core: Core, run: Run, opened: OpenEpoch, done: int, begun: bool) -> dict[str, Any]:
    """Returns the state of an open epoch."""
    return {
        **opened.state_dict(),
        **{name: getattr(run.tally, name) for name in _TALLIED},
        "order": _order_of(core, opened),
        "done": done,
        "begun": begun,
    }


def load(
    core: Core, saved: Mapping[str, Any] | Iterable[Mapping[str, Any]], changed: Iterable[str]
) -> None:
    """Replaces what `core` holds by a saved state; see `Pruner.load_state_dict`."""
    settings, table, trace = core.settings, core.table, core.trace
    roots = parts_of(saved)
    identity = settings.identity()
    check(roots, identity, arguments.changed(changed), columns=table.columns.own)
    states: list[State] = [root.value for root in roots]
    history, full = states[0]["run"]["history"], states[0]["run"]["full"]
    run, reopened = Run.after(history, full), None
    if states[0]["open"] is not None:
        reopened = table.reopened(states)
        run = _resumed(core, run, states, reopened)
        run = run._replace(reclassed=states[0]["settings"]["strata"] != identity["strata"])
        ranks = settings.ranks
        own = 0 if ranks is None or settings.sharding != "sharded" else ranks.process
        if reopened.same_order:
            _check_order(core, run, states[own]["open"]["order"])
    if settings.track and tracked.VISITS not in states[0]["table"]["columns"]:
        logger.warning("the losses of samples are tracked from here on: the state was not")
    if states[0]["settings"]["policy"] != identity["policy"]:
        states = [{**state, "table": {**state["table"], "another": True}} for state in states]
    before, after = _stored(states[0]["settings"]["policy"], identity["policy"], settings.policy)
    lacks, differ = table.columns.lacks_losses(states[0]["table"]), ""
    if before != after:
        differ = f"the policy of the state stores {before}, that of the run {after}"
    elif lacks and takes_signals(settings.policy):
        differ = f"the state has scores of its policy in place of {after}: track=True keeps both"
    if differ:
        if any(len(state["table"]["log"]["indices"]) for state in states):
            raise ValueError(
                f"{differ}, and the state was saved in the middle of an epoch: finish it before "
                "the policy changes"
            )
        logger.warning("all samples begin unseen: %s", differ)
        unlike = {"columns": {}, "unlike": True}
        states = [
            {
                **state,
                "table": {**state["table"], **unlike},
                "trace": state["trace"] and {**state["trace"], "visits": None},  # counted anew
            }
            for state in states
        ]
    elif lacks:
        logger.warning(
            "the scores of the policy before stand for losses until samples are trained again: the "
            "state of a run with track=True has the losses, too"
        )
    resized = _resized(settings, run, history)
    for holder in core.holders:
        holder.clear()
    core.begin_overwrite("load_state_dict()")
    trained, nonfinite = table.load_state_dict(states, reopened)
    core.settings = settings = resized
    core.history = [copied(row) for row in history]
    if not _same_method(states[0]["settings"]["policy"], identity["policy"]):
        for row in (*core.history[-1:], *([run.open.row] if run.open is not None else ())):
            row.pop("notes", None)  # which the policy before made for itself
    if trace is not None:
        trace.load_state_dict([state["trace"] for state in states], len(history), settings.n, table)
    if reopened is not None:
        run = run._replace(tally=run.tally.after(0, trained, nonfinite))
    opened = run.open
    if opened is not None and not run.any_trained:
        share = table.share(opened.epoch, opened.kept, 0)
        if not settings.sizes.whole(len(share), opened.kept):  # batches are larger here
            run = run._replace(open=None)
            table.forget_epoch()
    core.end_overwrite(run)


def _resized(settings: Settings, run: Run, history: Sequence[Mapping[str, Any]]) -> Settings:
    """Returns the settings with the lengths of a run whose dataset was resized before."""
    rows = [*history, *([run.open.row] if run.open is not None else [])]
    others = [row["epoch"] for row in rows if row["samples"] != settings.n]
    if not others or settings.lengths is None or settings.budget is None:
        return settings
    lengths, sizes, left = list(settings.lengths), settings.sizes, None
    for row in rows:
        lengths[row["epoch"]] = row["kept"]
    before = others[-1] + 1
    if settings.steps is not None:
        left = settings.steps - sum(map(sizes.batches, lengths[:before]))
    always = settings.always_keep
    after = arguments.resized_lengths(sizes, settings.budget, lengths, before, left, always)
    return replace(settings, lengths=after)


def _stored(saved: str, own: str, policy: Policy) -> tuple[str, str]:
    """Returns what is stored of each sample for the policy of a state, and for that of the run.

    Args:
        saved: The description of the one in a state, which names its method.
        own: That of the run's.
        policy: The run's.
    """
    after = stored_by(policy)
    return after if _same_method(saved, own) else stored_by(method_of(saved)), after


def _same_method(saved: str, own: str) -> bool:
    """Returns whether two descriptions of policies name the same method."""
    return saved.split("(")[0] == own.split("(")[0]


def _resumed(core: Core, run: Run, states: Sequence[State], reopened: Reopened) -> Run:
    """Returns the run in the middle of the epoch that was open; changes nothing."""
    saved, table = states[0]["open"], core.table
    curve, binning = unpack_curve(saved["curve"])
    weights = None
    if curve.weight_by_cell is not None:
        weights = Weights(curve.weight_by_cell, binning, table, None, table.open_weights(states))
    tally = Tally(*(saved[name] for name in _TALLIED))
    return run._replace(
        open=open_epoch(core, dict(saved["row"]), curve, binning, reopened.mask, weights),
        tally=tally._replace(clock=time.perf_counter()),
        # On other ranks the mask of a sharded table is what is left to train.
        done=min(int(part["open"]["done"]) for part in states) if reopened.same_order else 0,
        resumed=any(
            part["open"]["begun"] or len(part["table"]["log"]["indices"]) for part in states
        ),
        curve=curve,
    )


def _order_of(core: Core, opened: OpenEpoch) -> int | None:
    """Returns a digest of the order that `reorder` made; None without `reorder`."""
    return digest_of(opened.selection.indices.data) if core.settings.reorder else None


def _check_order(core: Core, run: Run, saved: int | None) -> None:
    """Refuses to go on in another order: some samples would come twice, and some never.

    Raises:
        ValueError: The order differs, and a part of the epoch is trained.
    """
    if run.open is not None and run.resumed and saved != _order_of(core, run.open):
        raise ValueError(
            f"the state was saved in epoch {run.open.epoch}, whose samples have another order "
            "now: give the same reorder= (shuffle= of a loader) as the run that was saved, and "
            "one that returns the same order, or load a state from between two epochs"
        )
