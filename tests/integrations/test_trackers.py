"""Rows of epochs in TensorBoard, W&B and MLflow, in processes of their own: they leave threads."""

import re
from importlib.util import find_spec

import pytest

from tests.integrations.checks import ROOT, names_of, outcomes, python

HERE = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def needs(*packages):
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def outcome():
    return outcomes("tracker_checks.py", 1, **HERE)


@pytest.mark.parametrize("name", names_of("tracker_checks.py"))
def test_figures_arrive(outcome, name):
    tracker, _, other = name.partition("_of_")
    needs(*{tracker, other} & {"tensorboard", "torch", "wandb", "mlflow"})
    (problem,) = outcome(name)
    assert problem is None, problem


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_the_example_runs(tmp_path, tracker):
    needs("sklearn", tracker)
    process = python(
        ROOT / "examples" / "trackers.py", tracker, "--epochs", "4", "--folder", tmp_path, **HERE
    )
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert re.search(
        r"^epoch 3: kept \d+ of 1797, mean loss before it 0\.\d+; saved", printed, re.M
    )
    assert any(
        tmp_path.rglob({"tensorboard": "*tfevents*", "wandb": "*.wandb"}.get(tracker, "kept_share"))
    )


def test_the_page_runs(tmp_path):
    needs("torch", "tensorboard", "wandb", "mlflow")
    page = (ROOT / "docs" / "trackers.md").read_text()
    blocks = re.findall(r"^```(?:py|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    ends = "\nfor epoch in range(4):\n    pruner.begin_epoch()\n    pruner.end_epoch()\n"
    script = tmp_path / "page.py"
    script.write_text("\n".join([blocks[0], blocks[1], ends, blocks[2], ends]))
    process = python(script, cwd=tmp_path, **HERE)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    for folder in ("runs", "wandb", "mlruns"):
        assert (tmp_path / folder).is_dir(), folder
