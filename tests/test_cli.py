"""The command line: what it tells, and how it says no."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seta
from seta import policies
from seta.commands import app
from seta.plan import Calibration

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


def python(code):
    """Run code in a fresh interpreter; returns exit code, output and errors."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          encoding="utf-8")  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_version_is_that_of_the_package():
    assert call("--version").output == f"seta {seta.__version__}\n"
    assert version("seta") == seta.__version__


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "seta", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"seta {seta.__version__}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Windows close otherwise")
@pytest.mark.parametrize("command", ["--version", "methods", "plan --samples 1e4 --epochs 2"])
def test_a_reader_that_leaves_early_gets_no_traceback(command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "seta", *command.split()], stdout=writing,
                          stderr=subprocess.PIPE, text=True, timeout=60)  # fmt: skip
    os.close(writing)
    assert done.stderr == ""


def test_the_methods_are_listed_with_their_settings_and_sources():
    output = call("methods").output
    for name in policies.REGISTRY:
        assert name in output
    assert "delta=0.875" in output
    assert "arXiv 2503.13385" in output
    assert "arXiv 2303.04947" in output
    text = " ".join(output.split())
    assert "UAI 2025, PMLR 286:1648-1662. Settings" in text
    assert "https://openreview.net/forum?id=Zw1Uw7u6Su. Settings" in text


def test_without_a_command_the_help_is_shown():
    assert "demo" in call().output
    assert "--budget" in call("demo", "--help").output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "seta", "--method", "magic"], "error: --method magic: is none of SeTa, "),
        (["--case", "Wrong", "--case", "hard"], "error: --case hard: is none of plain, wrong, "),
        (["--budget", 0.5, "--budget", 50], "error: --budget must lie in (0, 1), got 50: "),
        (["--epochs", 1, "--budget", 0.001], "budgets must leave at least one batch"),
        (["--epochs", 0], "error: --epochs must lie between 1 and 10,000, got 0"),
        (["--seeds", 0], "error: --seeds must lie between 1 and 1,000, got 0"),
        (["--limit", 5], "error: --test and --limit go with --data FILE"),
        (["--data", "nowhere.npz"], "error: nowhere.npz: no such file"),
        (["--data", "."], "error: .: is a folder; needed: a .parquet or .npz file"),
        (["--data", "a" * 300], "cannot be opened ("),
        (["--device", "abacus"], "error: --device abacus: torch cannot use it"),
        (["--device", "meta"], "error: --device meta: torch cannot use it"),
        (["--device", "hpu"], "error: --device hpu: torch cannot use it"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(options, message, tmp_path):
    result = call("demo", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.png"))


FIGURE = re.compile(r"\d[\d.,]*\d|\d")
PLAN = ["plan", "--samples", "1e9", "--epochs", 3, "--ranks", 1024, "--batch-size", 64]


@pytest.fixture
def timed(monkeypatch):
    """A machine whose speed is known."""
    timed = {"choose_ns": 20, "order_ns": 40, "record_ns": 5}
    found = Calibration(samples=976_800, **timed, threads=16, cores=64)
    monkeypatch.setattr("seta.plan.calibrate", lambda plan: found)


@pytest.mark.usefixtures("timed")
def test_a_plan_says_what_a_run_will_take():
    result = call(*PLAN, "--budget", 0.6, "--throughput", 500, "--bandwidth", 10)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    for line in (
        "seta plan: 3 epochs of SeTa, budget 0.6, losses sharded",
        "1,000,000,000 samples, 1,024 ranks on 128 nodes, batches of 64 samples per rank",
        "1 599,982,080 9,155 60.0 %",
        "all 1,799,946,240 27,465 60.0 %",
        "rank, always 5.86 MB losses of its 976,800 samples, 6 bytes each",
        "per-step gather 4.8 GB received by a rank in 9,155 exchanges, one in every step",
        "choosing 39.1 ms 20 ns per sample, timed here; 8 ranks on 64 cores",
        "training 19.5 min at 500 samples/s per rank",
        "visits saved 1,200,053,760 40.0 % of the 3,000,000,000 of full training",
        "time 58.6 min training and choosing",
        "rank-hours 1,000 1,024 ranks",
        "rank-hours saved 667 of 1,667",
    ):
        assert line in lines
    assert "cost saved" not in result.output


@pytest.mark.usefixtures("timed")
def test_a_plan_with_a_price_says_what_a_run_costs_and_saves():
    options = [*PLAN, "--budget", 0.6, "--throughput", 500, "--price", 2.5]
    lines = [" ".join(line.split()) for line in call(*options).output.splitlines()]
    assert "cost 2,500 at 2.5 per rank-hour" in lines
    assert "cost saved 1,667 of 4,167 of full training" in lines
    found = json.loads(call(*options, "--json").output)
    assert found["run"]["price"] == 2.5
    assert found["cost"]["full"] == pytest.approx(3e9 / 500 / 3600 * 2.5)
    assert found["cost"]["run"] == pytest.approx(3 * found["seconds"]["run"] * 1024 / 3600 * 2.5)
    assert found["cost"]["saved"] == pytest.approx(found["cost"]["full"] - found["cost"]["run"])


@pytest.mark.usefixtures("timed")
def test_a_plan_of_a_tiny_run_says_that_choosing_costs_more_than_it_spares():
    options = ["--samples", 1000, "--epochs", 3, "--budget", 0.9, "--throughput", "1e9"]
    output = " ".join(call("plan", *options).output.split())
    assert "batches of 1 sample per rank" in output
    assert "choosing 20 µs 20 ns per sample, timed here" in output
    assert "time lost" in output and "choosing costs more than it spares" in output
    assert "-" not in output.split("Whole run")[1].replace("rank-hours", "")


@pytest.mark.usefixtures("timed")
def test_a_plan_without_a_budget_says_that_it_is_an_estimate():
    output = call(*PLAN, "--method", "infobatch").output
    assert "These lengths are an estimate: InfoBatch asked about made-up losses" in output
    assert "~ 3,000,000,000" not in output.split("all")[0]
    assert "give --throughput, the samples per second of a rank" in output


@pytest.mark.usefixtures("timed")
def test_a_plan_of_ranks_that_do_not_fit_the_shards_names_some_that_do():
    output = " ".join(call(*PLAN, "--budget", 0.6, "--ranks", 4000).output.split())
    assert "4,000 ranks do not divide the 61,440 shards. 3,840 or 4,096 ranks would." in output


@pytest.mark.usefixtures("timed")
def test_a_plan_of_many_epochs_shows_the_first_and_the_last():
    output = call("plan", "--samples", 1000, "--epochs", 100, "--budget", 0.5).output
    shown = [line.split()[0] for line in output.splitlines() if line.endswith("50.0 % ")]
    assert shown == ["0", "1", "2", "3", "4", "5", "97", "98", "99", "all"]
    assert "a single rank" in output


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_plan_fits_the_terminal_and_no_figure_is_cut(columns):
    cost = ["--throughput", 500, "--price", 2.5]
    for options in (["--budget", 0.6, *cost], ["--sharding", "replicated"], ["--drop-last"]):
        arguments = list(map(str, [*PLAN, *options]))
        shown, whole = (
            CliRunner().invoke(app, arguments, env={"COLUMNS": str(width)}).output
            for width in (columns, 200)
        )
        assert max(map(len, shown.splitlines())) <= columns
        assert "…" not in shown
        figures = Counter(FIGURE.findall(shown))
        assert figures <= Counter(FIGURE.findall(whole))  # "Steps" may be left out, and says so
        assert figures.total() == Counter(FIGURE.findall(whole)).total() or "Not shown" in shown


@pytest.mark.parametrize("policy", policies.REGISTRY)
@pytest.mark.parametrize("options", [[], ["--budget", 0.5]])
def test_a_run_of_every_method_can_be_planned(policy, options):
    found = call("plan", "--samples", 2000, "--epochs", 3, "--method", policy, *options, "--json")
    assert found.exit_code == 0
    assert json.loads(found.output)["run"]["policy"] == policy


@pytest.mark.usefixtures("timed")
def test_a_plan_of_a_method_that_looks_at_classes_says_which():
    options = ["--samples", 2000, "--epochs", 3, "--method", "rcap"]
    output = " ".join(call("plan", *options).output.split())
    assert "RCAP looks at classes: 10 of equal size and with equal losses here; --classes" in output
    assert "losses and classes of all samples, 7 bytes each" in output
    output = " ".join(call("plan", *options, "--classes", 300).output.split())
    assert "300 of equal size" in output and "8 bytes each" in output


@pytest.mark.usefixtures("timed")
def test_a_plan_as_json_has_all_figures():
    found = json.loads(call(*PLAN, "--budget", 0.6, "--throughput", 500, "--json").output)
    assert found["lengths"] == "exact"
    assert found["run"]["samples"] == 10**9
    assert [epoch["steps"] for epoch in found["epochs"]] == [9155] * 3
    assert found["steps"] == 27_465
    assert found["memory"]["peak_of_node"] == 8 * found["memory"]["peak"]
    assert found["exchange"]["received"] < found["published_exchange"]["received"]
    assert found["seconds"]["saved"] > 0


def test_a_plan_times_this_machine():
    found = json.loads(call("plan", "--samples", "3e4", "--epochs", 2, "--json").output)
    assert found["lengths"] == "estimated"
    assert found["calibration"]["samples"] == 30_000
    assert found["seconds"]["choose"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", 3], "error: --samples: must be given; give the samples of the dataset"),
        (["--samples", "1e6x", "--epochs", 3], "error: --samples 1e6x: must be a whole number"),
        (["--samples", 100, "--epochs", 3, "--budget", 60], "give 0.6 for 60 %"),
        (["--samples", 100, "--epochs", 3, "--price", 2], "error: --price 2: needs the hours"),
        (["--samples", 100, "--epochs", 3, "--price", "2 EUR"], "give the price of an hour of a"),
        (
            ["--samples", 1000, "--epochs", 3, "--ranks", 9, "--batch-size", 50, "--budget", 0.3],
            "error: --budget 0.3: budget leaves epoch 0 without a batch",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(options, message):
    result = call("plan", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output and not result.stdout


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = call("demo", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "cannot be written to" in result.stderr
    assert "give a folder that can" in result.stderr


def test_the_command_without_its_extra_says_how_to_install_it():
    code, _, errors = python(
        "import sys; sys.modules['typer'] = None; from seta.cli import main; main()"
    )
    assert code == 1
    assert errors == (
        'the seta command needs typer, which is not installed: pip install "seta[cli]"\n'
    )


def test_the_version_is_told_without_any_extra():
    code, output, _ = python(
        "import sys; sys.modules.update(typer=None, rich=None); sys.argv = ['seta', '--version'];"
        "from seta.cli import main; main()"
    )
    assert (code, output) == (0, f"seta {seta.__version__}\n")


def test_the_readmes_install_brings_the_command():
    root = Path(__file__).resolve().parents[1]
    assert "pip install '.[torch]'" in (root / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert "seta[cli]" in extras["torch"]
    assert {one.partition(">")[0] for one in extras["cli"]} == {"rich", "typer"}


def test_the_demo_names_all_that_is_missing_at_once():
    code, _, errors = python(
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'sklearn')));"
        "sys.argv = ['seta', 'demo']; from seta.cli import main; main()"
    )
    assert code == 2
    assert errors == (
        "error: seta demo needs torch, scikit-learn, which are not installed: "
        'pip install "seta[demo]"\n'
    )


def test_parquet_files_say_what_they_need(tmp_path):
    (tmp_path / "a.parquet").touch()
    code, _, errors = python(
        "import sys; sys.modules['pyarrow'] = None;"
        "from pathlib import Path; from seta.demo.files import open_images;"
        f"open_images(Path({str(tmp_path)!r}) / 'a.parquet')"
    )
    assert code == 1
    assert "reading a parquet file of images needs pyarrow, which is not installed: pip" in errors


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("'--version'", "seta"),
        ("'methods'", "InfoBatch"),
        ("'plan', '--samples', '1e4', '--epochs', '2'", "rank, always"),
    ],
)
def test_versions_methods_and_plans_need_only_the_extra_cli(command, shown):
    others = ("torch", "jinja2", "matplotlib", "PIL", "pyarrow", "scipy", "sklearn", "vl_convert")
    code, output, _ = python(
        f"import sys; sys.modules.update(dict.fromkeys({others}));"
        f"sys.argv = ['seta', {command}];from seta.cli import main; main()"
    )
    assert code == 0
    assert shown in output
