"""The command line: what it tells, and how it says no."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

import seta
from seta import policies
from seta.commands import app


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


def test_the_methods_are_listed_with_their_settings_and_sources():
    output = call("methods").output
    for name in policies.REGISTRY:
        assert name in output
    assert "delta=0.875" in output
    assert "arXiv 2503.13385" in output
    assert "arXiv 2303.04947" in output


def test_without_a_command_the_help_is_shown():
    assert "demo" in call().output
    assert "--prune-ratio" in call("demo", "--help").output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "full,magic"], "error: --methods: 'magic' is not one of full, "),
        (["--methods", "equal-cost"], "full-at-equal-cost takes its cost from SeTa: add seta"),
        (["--epochs", 0], "error: --epochs must be at least 1, got 0"),
        (["--seeds", 0], "error: --seeds must be at least 1, got 0"),
        (["--limit", 5], "error: --test and --limit go with --data FILE"),
        (["--prune-ratio", 1.5], "error: --prune-ratio: prune_ratio "),
        (["--data", "nowhere.npz"], "error: nowhere.npz: no such file"),
        (["--device", "abacus"], "error: --device abacus: torch cannot use it"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(options, message, tmp_path):
    result = call("demo", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("out/*.png"))


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
        'the seta command needs typer, which is not installed: pip install "seta[demo]"\n'
    )


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


def test_help_and_methods_need_no_torch():
    code, output, _ = python(
        "import sys; sys.modules['torch'] = None; sys.argv = ['seta', 'methods'];"
        "from seta.cli import main; main()"
    )
    assert code == 0
    assert "InfoBatch" in output
