"""What the site has beyond the pages of this folder: the reference, and files that pages link to.

Its first page is the README of the repository; that of this folder is a list of pages. Pages link
to files of the repository (`../examples/sft.py`), which lie outside of the site. Here each of them
becomes a page of it, and the links lead there. The reference is made of the docstrings of all
public names.
"""

import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")
REFERENCE = {
    "loaders": (
        "PyTorch loaders and losses",
        "seta: PrunedDataLoader ProgressSchedule per_sample token_losses token_counts",
    ),
    "engine": (
        "Engine",
        "seta: Pruner SampleTable Selection batches save load",
        "seta.engine: rows",
        "seta.engine.trace: Trajectories",
        "seta.engine.steps: Steps",
        "seta.engine.table.ranks: Ranks",
    ),
    "methods": (
        "Methods",
        "seta: SeTa Learnable InfoBatch InfoBatchQuantiles RePB BLS OrderDP EpsilonGreedy UCB "
        "RCAP RS2 Random Static Full",
        "seta.policies: get",
    ),
    "own-methods": (
        "Custom methods",
        "seta: Policy KeepCurve LossHistogram Binning",
        "seta.engine: DifficultyGroups difficulty_groups",
    ),
    "compare": ("Comparisons", "seta: compare Comparison"),
    "page": ("Run page", "seta.report: page"),
    "rl": (
        "Reinforcement learning",
        "seta.rl: ZeroSignal SuccessRate group_signal record_rewards is_flat rate_of",
    ),
    "published": (
        "Published interface",
        "seta: prune Log",
        "seta.compat: PublishedDataset",
    ),
    "building-blocks": (
        "Custom loaders",
        "seta.torch: Loop PrunedSampler IndexedDataset IndexedRows IndexedCollate LossBuffer "
        "indices_of ranks_of weighted_mean",
    ),
    "accelerate": ("Accelerate", "seta.integrations.accelerate: PrunedAccelerateLoader"),
    "transformers": (
        "Transformers and TRL",
        "seta.integrations.transformers: PrunedTrainer PrunedTrainerMixin PruningArguments",
        "seta.integrations.trl: PrunedSFTTrainer PrunedSFTMixin PrunedGRPOTrainer PrunedGRPOMixin "
        "RolloutArguments PrunedDPOTrainer PrunedDPOMixin PrunedKTOTrainer PrunedKTOMixin "
        "PrunedRewardTrainer PrunedRewardMixin",
    ),
    "sentence-transformers": (
        "sentence-transformers",
        "seta.integrations.sentence_transformers: PrunedSentenceTransformerTrainer "
        "PrunedSentenceTransformerMixin PrunedCrossEncoderTrainer",
    ),
    "lightning": ("Lightning", "seta.integrations.lightning: PruningCallback PrunedBatches"),
    "ray": ("Ray Train", "seta.integrations.ray: PrunedRayLoader"),
    "datasets": ("Datasets", "seta.integrations.datasets: losses_by_id"),
    "streams": ("Streams", "seta.integrations.streams: PrunedStream KeepSet"),
    "fit": (
        "fastai, mmengine, skorch, timm",
        "seta.integrations.fastai: PruningCallback FastaiLoop",
        "seta.integrations.mmengine: PrunedTrainLoop PrunedIterTrainLoop update",
        "seta.integrations.skorch: PrunedNetMixin RunOfNet",
        "seta.integrations.timm: PrefetchedLoader",
    ),
    "shards": ("litdata and streaming", "seta.integrations.shards: RandomAccess"),
    "jax": (
        "JAX and Grain",
        "seta.integrations.jax: ProcessRanks ranks_of local_rows",
        "seta.integrations.grain: Kept batches",
    ),
}
"""The pages of the reference: title, and public names by module."""

_TRAINER = "    options: {members: [pruner, update, skip]}\n"
OPTIONS = {
    "seta.engine.rows": "    options: {heading: Rows of Pruner.history, members: false}\n",
    "seta.integrations.transformers.PruningArguments": "    options: {members: false}\n",
    "seta.integrations.trl.RolloutArguments": "    options: {members: false}\n",
    "seta.integrations.transformers.PrunedTrainer": _TRAINER,
    "seta.integrations.transformers.PrunedTrainerMixin": _TRAINER,
    "seta.integrations.trl.PrunedSFTTrainer": _TRAINER,
    "seta.integrations.trl.PrunedSFTMixin": _TRAINER,
    "seta.integrations.trl.PrunedGRPOTrainer": _TRAINER,
    "seta.integrations.trl.PrunedGRPOMixin": _TRAINER,
    "seta.integrations.lightning.PruningCallback": "    options: {members: [of, loader, update, "
    "weights, skip, pruner, total_steps, progress, schedule]}\n",
}
"""Options of mkdocstrings for single entries: which members a user of the class calls."""

ALWAYS = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "examples/tasks/README.md")
"""Files that have a page in any case, in the order of the last tab."""

HOME = "README.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Completes the tabs: the reference, and the files that always have a page."""
    reference = [f"reference/{page}.md" for page in REFERENCE]
    config.nav.insert(-1, {"Reference": reference})
    config.nav[-1]["Project"] += [_page_of(name) for name in ALWAYS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each file that a page links to, and those of the reference."""
    waiting = [
        ("docs/" + file.src_uri, Path(file.abs_src_path).read_text("utf-8"))
        for file in files
        if file.src_uri.endswith(".md")
    ]
    waiting += [(name, (ROOT / name).read_text("utf-8")) for name in ("README.md", *ALWAYS)]
    made = set(ALWAYS)
    while waiting:
        source, text = waiting.pop()
        found = {_target(source, link) for _, link, _ in LINK.findall(text)}
        for name in found - {None, "README.md"} - made:
            made.add(name)
            if name.endswith(".md"):
                waiting.append((name, (ROOT / name).read_text("utf-8")))
    for name in sorted(made):
        file = File.generated(config, _page_of(name), content=_content(name))
        file.inclusion = InclusionLevel.NOT_IN_NAV  # most are reached by links alone
        files.append(file)
    for page, (title, *names) in REFERENCE.items():
        shown = "".join(f"::: {path}\n{OPTIONS.get(path, '')}\n" for path in paths(names))
        files.append(
            File.generated(config, f"reference/{page}.md", content=f"# {title}\n\n{shown}")
        )
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns links to files of the repository into links to their pages, and opens up <details>."""
    if page.file.src_uri == HOME:
        return str(_content("README.md"))
    text = markdown.replace("<details>", "<details markdown>")  # else tables in it stay raw text
    return _with_links(text, f"docs/{page.file.src_uri}", page.file.src_uri)


def _with_links(text: str, source: str, page: str) -> str:
    def link(found: re.Match[str]) -> str:
        name = _target(source, found[2])
        if name is None:
            return found[0]
        return found[1] + relpath(_page_of(name), str(PurePosixPath(page).parent)) + found[3]

    return LINK.sub(link, text)


def _target(source: str, link: str) -> str | None:
    """Returns the file of the repository outside of docs/ that a link leads to, if it does."""
    if "://" in link or link.startswith("mailto:"):
        return None
    name = normpath(str(PurePosixPath(source).parent / link))
    return None if name.startswith(("docs/", "..")) or not (ROOT / name).is_file() else name


def _page_of(name: str) -> str:
    """Returns where the site has a file: Markdown and pictures as they are, code on a page."""
    if name == "README.md":
        return HOME
    return f"files/{name if Path(name).suffix in ('.md', '.png', '.svg') else name + '.md'}"


def _content(name: str) -> str | bytes:
    """Returns the site's copy of a file: Markdown with other links, a picture, or code."""
    page = _page_of(name)
    if page.endswith((".png", ".svg")):
        return (ROOT / name).read_bytes()
    text = (ROOT / name).read_text("utf-8")
    if name.endswith(".ipynb"):
        text = _cells(text)
    elif not name.endswith(".md"):
        return f"# {name}\n\n~~~~{Path(name).suffix[1:] or 'text'}\n{text}\n~~~~\n"

    def link(found: re.Match[str]) -> str:
        target = normpath(str(PurePosixPath(name).parent / found[2]))
        if "://" in found[2] or not target.startswith("docs/"):
            return found[0]
        return (
            found[1]
            + relpath(target.removeprefix("docs/"), str(PurePosixPath(page).parent))
            + found[3]
        )

    return _with_links(LINK.sub(link, text), name, page)


def _cells(notebook: str) -> str:
    """Returns a notebook as Markdown: its text, and its code in blocks."""
    shown = {"markdown": "{}", "code": "```python\n{}\n```"}
    cells = json.loads(notebook)["cells"]
    return "\n\n".join(shown[cell["cell_type"]].format("".join(cell["source"])) for cell in cells)


def paths(names: list[str]) -> list[str]:
    """Returns the whole names of "module: name name"."""
    pairs = (entry.split(": ") for entry in names)
    return [f"{module}.{name}" for module, some in pairs for name in some.split()]
