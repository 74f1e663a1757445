"""The page of a run that recorded rewards: success rates, and no word of losses."""

import numpy as np
import pytest

import seta
from seta.report.inspection.classes import classes_of
from seta.report.inspection.content import content_of
from seta.report.inspection.facts import facts_of
from seta.report.inspection.render import html_of
from seta.report.inspection.states import states_of
from seta.rl import SuccessRate, ZeroSignal, group_signal

RATES = np.repeat([0.0, 1.0, 0.5], 40)
SIDES = np.repeat(["never", "always", "half"], 40)
POLICIES = [ZeroSignal(), SuccessRate(0.5)]


def run_of(policy, *, track=True, missing=()):
    """A run on prompts that are never, always, or half of the time solved."""
    pruner = seta.Pruner(120, policy, epochs=9, budget=0.5, seed=0, track=track, threads=1)
    for epoch in range(9):
        prompts = pruner.begin_epoch().indices
        rewards = np.random.default_rng(epoch).random((len(prompts), 8)) < RATES[prompts, None]
        rewards = np.where(np.isin(prompts, missing)[:, None], np.nan, rewards)
        pruner.record(prompts, group_signal(rewards))
        pruner.end_epoch()
    return pruner


def content(run):
    classes = classes_of(SIDES, 120)
    facts = facts_of(states_of(run))
    return content_of(facts, classes=classes, items=None, title="A run", moment=None)


@pytest.mark.parametrize("policy", POLICIES)
def test_prompts_are_listed_by_their_success_rate(policy):
    found = content(run_of(policy))
    lists = {one.listed.key: one.rows for one in found.lists}
    assert lists.keys() - {"starved"} == {"solved-least", "solved-most"}
    least, most = lists["solved-least"][:40], lists["solved-most"][:40]
    assert {SIDES[row.index] for row in least} == {"never"}
    assert {SIDES[row.index] for row in most} == {"always"}
    assert found.columns == ["success rate", "visits", "left out"]
    curves = found.data["curves"].values()
    assert {rate for curve in curves for rate in curve if rate is not None} <= {
        eighths / 8 for eighths in range(9)
    }


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_sentence_takes_signals_for_losses(policy, track):
    run = run_of(policy, track=track, missing=range(80, 90))
    found = content(run)
    keys = {section.key for section in found.sections}
    assert keys == {"cost", "losses", "visits", "classes"}
    page = html_of(found).partition("<body>")[2].partition("<script")[0]
    told = page.replace("The run recorded rewards, not losses", "")
    for key in ('"#losses"', '"losses"', '-losses"'):  # names of the page's parts
        told = told.replace(key, "")
    for word in ("loss", "Loss", "label is", "labels lie", "hard region", "uspects"):
        assert word not in told.replace("no data map and no suspects", "")


def test_prompts_that_are_meant_to_wait_are_no_warning():
    found = content(run_of(ZeroSignal()))
    (starved,) = [one.listed for one in found.lists if one.listed.key == "starved"]
    assert len(starved.rows) and "meant to wait" in starved.action
    (visits,) = [section for section in found.sections if section.key == "visits"]
    assert not visits.findings


def test_groups_without_rewards_are_no_unstable_run():
    found = content(run_of(ZeroSignal(), missing=range(90, 120)))
    (finding,) = found.sections[0].findings
    assert "groups had no rewards" in finding.meaning and not finding.warning


def test_what_a_method_chooses_by_is_called_a_score():
    """A tracked run has the losses besides, which are those of its samples."""
    pruner = seta.Pruner(120, "Learnable", epochs=9, budget=0.5, seed=0, track=True, threads=1)
    for _ in range(4):
        chosen = pruner.begin_epoch().indices
        pruner.record(chosen, (0.1 + chosen / 100).astype(np.float32))
        pruner.end_epoch()
    found = {section.key: section for section in content(pruner).sections}
    assert "mean score before" in found["cost"].charts[0].table.headers
    assert found["losses"].title == "Scores and the keep curve"
    assert found["losses"].data["judged"] == "score"
    assert "mean loss" in found["classes"].tables[0].headers


def test_classes_of_an_untracked_run_with_scores_have_mean_scores():
    found = {section.key: section for section in content(run_of("Learnable", track=False)).sections}
    assert "mean score" in found["classes"].tables[0].headers
