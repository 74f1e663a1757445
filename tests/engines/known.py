"""The training engines that have a page in docs/engines: what each imports, and who tests it.

`frameworks` install beside everything else and are tested by `make test-integrations`; `engines`
are heavy, or bring much along, and are tested by `make test-engines` alone.
"""

from importlib.util import find_spec

import pytest

IMPORTS = {  # by page, and by test file
    "deepspeed": ["deepspeed"],
    "fastai": ["fastai"],
    "fsdp": [],
    "grain": ["grain", "jax"],
    "graphs": ["torch_geometric"],
    "ignite": ["ignite"],
    "keras": ["keras"],
    "litdata": ["litdata"],
    "mmengine": ["mmengine"],
    "preferences": ["trl", "peft"],
    "segmentation-and-detection": ["transformers"],
    "sentence-transformers": ["sentence_transformers"],
    "skorch": ["skorch"],
    "stateful-dataloader": ["torchdata"],
    "steps": [],
    "streaming": ["streaming"],
    "timm": ["timm"],
    "your-loop": [],
}
HEAVY = {"deepspeed", "fastai", "litdata", "mmengine", "streaming", "timm"}


def mark(name):
    """Returns the marker of an engine's tests."""
    return pytest.mark.engines if name in HEAVY else pytest.mark.frameworks


def skip_without(name):
    """Skips where an engine is not installed."""
    missing = [module for module in IMPORTS[name] if find_spec(module) is None]
    if missing:
        target = "test-engines" if name in HEAVY else "test-integrations"
        pytest.skip(f"{', '.join(missing)} not installed: make {target} installs it")
