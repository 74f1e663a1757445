"""Fails unless `import seta` finds the installed wheel, not the source tree."""

import sys
import sysconfig
from pathlib import Path

import seta

found = Path(seta.__file__).resolve()
wanted = Path(sysconfig.get_path("purelib")).resolve()
if not found.is_relative_to(wanted):
    sys.exit(f"seta was imported from {found.parent}, not from {wanted}: unset PYTHONPATH")
print(f"==> testing {found.parent}")
