"""Lines of results as the harness writes them, made up: seeded, and shaped like real ones."""

import json

import numpy as np

from seta.comparison.contenders import AT_BUDGET

FULL = "Full"
SHORTER = "Full at equal cost"
METHODS = AT_BUDGET
PUBLISHED = {"SeTa as published": 0.62, "InfoBatch as published": 0.71}
BUDGETS = (0.7, 0.5, 0.3)
LENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.5)
MACHINE = {"system": "Linux", "architecture": "x86_64", "processor": "AMD EPYC", "cores": 2,
           "load": 1.2, "memory_gib": 23.5}  # fmt: skip


def lines(suite="cifar10-small", variant="improving", seeds=3, wrong=0.0, steep=0.06, start=0):
    """All runs of a task: methods x budgets x seeds, Full's own curve, and those as published."""
    cells = [(FULL, 1.0), *((SHORTER, length) for length in LENGTHS)]
    cells += [(method, budget) for method in METHODS for budget in BUDGETS]
    cells += [(method, None) for method in PUBLISHED]
    task = (suite, variant, wrong, steep)
    return [line(*cell, seed, *task) for cell in cells for seed in range(start, start + seeds)]


def line(
    method, budget, seed, suite="cifar10-small", variant="improving", wrong=0.0, steep=0.06, **other
):
    """One run; `other` replaces fields."""
    name = f"{suite} {variant} {method} {budget} {seed}".encode()
    random = np.random.default_rng(np.frombuffer(name, np.uint8))
    by_seed = np.random.default_rng(seed).normal(0, 0.002)
    full_visits, epochs = 40_000 * 12, 12
    share = PUBLISHED.get(method, budget) if budget is None else budget
    bonus = 0.0 if method.startswith(FULL) else 0.003 * ((len(method) * 7) % 9 - 5)
    accuracy = float(0.82 - steep * (share**-0.6 - 1) + bonus + by_seed + random.normal(0, 0.0015))
    pace = 1.0 if method.startswith(FULL) else 1.015
    seconds = 300 * share * pace * random.normal(1, 0.005)
    made = {
        "suite": suite,
        "variant": variant,
        "method": method,
        "budget": budget,
        "seed": seed,
        "accuracy": accuracy,
        "visits": 128 * round(full_visits * share / 128),
        "full_visits": full_visits,
        "saved": 1 - share,
        "n": 40_000,
        "epochs": 12 * share if method == SHORTER else 12,
        "full_epochs": epochs,
        "accuracies": [[epochs, round(full_visits * share), accuracy]],
        "metrics": {"accuracy": accuracy, "loss": 1.5 - accuracy, "rare_accuracy": accuracy - 0.3,
                    "exact_match": 0.01},
        "rows": [],
        "wrong_share": wrong * 0.9 if wrong else None,
        "wrong_share_of_data": wrong or None,
        "hardest": {"precision": min(1.0, 2.5 * wrong), "recall": 0.6} if wrong else None,
        "seconds": seconds,
        "cpu_seconds": seconds * 0.99,
        "select_seconds": 0.4,
        "eval_seconds": 5.0,
        "policy": f"{method.split()[0]}()",
        "task": {"batch_size": 128, "net": "conv", "recipe": {"rate": 0.1}},
        "versions": {"seta": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.7"},
        "machine": MACHINE,
        "threads": 1,
        "jobs": 2,
        "source": "0123456789abcdef",
        "date": "2026-11-24",
        "command": f"python -m benchmarks.accuracy --suite {suite} --data DIR",
    }  # fmt: skip
    return made | other


def store(folder, some):
    """Writes lines to `<suite>.jsonl` files, in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    for made in some:
        with (folder / f"{made['suite']}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(made) + "\n")
    return folder


def every_suite(seeds=3):
    """Lines of all suites, as the harness will have them at its end."""
    some = lines("digits", "", seeds)
    for suite in ("cifar10-small", "cifar10-resnet18"):
        some += lines(suite, "improving", seeds) + lines(suite, "saturated", seeds, steep=0.004)
    for net in ("cnn", "vit", "swin", "mamba"):
        some += lines("backbones", f"{net}/improving", seeds)
    some += lines("instruction", "", seeds)
    for wrong in (0.0, 0.1, 0.2, 0.4):
        some += lines("noise", f"wrong={wrong:g}", seeds, wrong)
    return some + lines("imbalance", "", seeds) + lines("redundant", "", seeds, 0.1)
