"""GSM8K: sums told in words, with worked answers, read from the files of a data folder.

`gsm8k-train.jsonl` and `gsm8k-test.jsonl`: `question` and `answer` on each line. From Cobbe et al.,
"Training Verifiers to Solve Math Word Problems" (arXiv 2110.14168). The notes for a calculator,
<<48/2=24>>, are taken out of the answers: they repeat the text around them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.accuracy.text import find

_LAYOUT = (
    "gsm8k-train.jsonl and gsm8k-test.jsonl (on each line a JSON object with question and answer)"
)
_NOTE = re.compile(r"<<.*?>>")
_FINAL = re.compile(r"####\s*(-?[\d.,]*\d)")


def read(data: Path | None, part: str) -> list[tuple[str, str]]:
    """Returns questions with their answers.

    Args:
        data: The folder of the files.
        part: "train" or "test".

    Raises:
        ValueError: No folder was given, the file is not in it, or a line is of another form.
    """
    path = find(data, f"gsm8k-{part}.jsonl", _LAYOUT)
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            pairs.append((str(row["question"]), _NOTE.sub("", row["answer"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path.name}, line {number} is {line[:60]!r}; needed: a JSON object with the "
                "texts question and answer"
            ) from error
    return pairs


def final_answer(text: str) -> str | None:
    r"""Returns the number after ####, without commas; None where there is none.

    >>> final_answer("She pays 5 + 1,000 = 1,005 dollars.\n#### 1,005")
    '1005'
    """
    found = _FINAL.search(text)
    return found[1].replace(",", "") if found else None
