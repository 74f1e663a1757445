"""Makes the files of this folder: `python -m tests.data.make`, or `... make digests`.

See README.md. What needs a framework that is not installed is left as it is, and named.
"""

import json
import sys

from seta.engine.state.formats import CURRENT
from tests.data.cases import FOLDER, FRAMEWORKS, METHODS, PRUNER, draws_of

DIGESTS = FOLDER / "digests.json"


def read(path):
    """Reads a state."""
    if path.suffix == ".pt":
        import torch

        return torch.load(path, weights_only=True)
    import seta

    return seta.load(path)


def write(state, path):
    """Writes a state."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".pt":
        import torch

        torch.save(state, path)
    else:
        import seta

        seta.save(state, path)


def cases():
    """Yields kind, number and case of every state that is kept."""
    for kind, number in CURRENT.items():
        for at in range(1, number + 1):
            kept = PRUNER if kind == "pruner" else []
            yield from ((kind, at, case) for case in kept if case.since <= at)
            if kind in FRAMEWORKS:
                yield kind, at, FRAMEWORKS[kind]


def paths_of(kind, number, case):
    """Returns the files of a case."""
    return [FOLDER / f"{kind}-{number}" / name for name in case.files]


def name_of(kind, number, case):
    """Returns what a case is called in the digests."""
    return f"{kind}-{number}/{case.files[0]}"


def main(files):
    """Makes the digests; and before them the files, if it is said."""
    digests = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {"states": {}}
    digests["methods"] = {name: draws_of(name) for name in METHODS}
    for kind, number, case in cases():
        try:
            paths = paths_of(kind, number, case)
            if files and number == CURRENT[kind]:
                for state, path in zip(case.save(), paths, strict=True):
                    write(state, path)
            if paths[0].exists():
                digests["states"][name_of(kind, number, case)] = case.go_on([*map(read, paths)])
        except ImportError as error:
            print(f"left as it is: {kind}-{number}, {error}")
    DIGESTS.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(files=sys.argv[1:] != ["digests"])
