"""The scale run, in a reduced form: it chooses from all samples, and trains the program's net."""

import json

import pytest
import scale


@pytest.mark.parametrize("name", scale.PROGRAMS)
def test_an_epoch_start_and_steps_are_measured(name, tmp_path, capsys):
    arguments = [name, "--samples=200_000", "--steps=3", f"--out={tmp_path}"]
    scale.main(arguments)
    assert "Samples chosen" in capsys.readouterr().out
    figures = json.loads((tmp_path / f"{name}-scale.json").read_text())["figures"]
    assert figures["Samples"] == 200_000
    assert figures["Samples chosen"] == 120_000
    assert figures["Steps"] == 3
