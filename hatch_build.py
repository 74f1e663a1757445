"""The README as package indexes show it: its links lead to the files of this version's tag."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r'(\]\(|\b(?:src|srcset|href)=")(?![a-z]+:|#|/)([^)"\s]+)')
PICTURES = (".png", ".svg", ".gif", ".jpg")


class ReadmeHook(MetadataHookInterface):
    """Fills in the field `readme` when a wheel or an sdist is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets `readme` in the metadata of the project, which has `urls` and `version`."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        tag = f"v{metadata['version']}"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(text, metadata["urls"]["Repository"], tag),
        }


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """Returns Markdown whose links to files lead to a tag of the repository on the web."""

    def absolute(found: re.Match[str]) -> str:
        start, target = found.groups()
        view = "raw" if target.endswith(PICTURES) else "blob"
        return f"{start}{repository}/{view}/{tag}/{target}"

    return RELATIVE.sub(absolute, text)
