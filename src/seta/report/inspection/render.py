"""A page as one file: the template filled in, with its style, its script and the charts' library.

Texts of the data set reach the page in two ways, and can run in neither: through jinja2, which
escapes them, and as JSON without `<`, which the script puts in place as text. Besides, the page
allows no script but its own, by their checksums, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from seta.report.inspection.content import Content
from seta.report.inspection.parts import Spec

_SNIPPET = "window.vegaEmbed = vegaEmbed;"  # `vega` itself is null there
_SCRIPTS = ("charts.js", "samples.js", "map.js", "losses.js")


def html_of(content: Content) -> str:
    """Returns a page.

    Args:
        content: What it says.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_library(), "\n".join(map(_text, _SCRIPTS))]
    charts = {
        chart.key: _compiled(chart.spec) for section in content.sections for chart in section.charts
    }
    return environment.get_template("page.html.j2").render(
        content=content,
        style=_text("page.css"),
        scripts=scripts,
        policy=_policy(scripts),
        data=_json({**content.data, "charts": charts}),
    )


def _policy(scripts: list[str]) -> str:
    """Returns what the page may do: its own scripts, and pictures and sounds that lie in it.

    Vega makes functions of the expressions of charts, which is why eval is allowed.
    """
    sums = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{total}'" for total in sums)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """Returns JSON that is safe within a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _compiled(spec: Spec) -> Spec:
    """Returns a chart in the language of Vega, so that the browser need not compile it."""
    import vl_convert

    plain = {"background": None, "view": {"stroke": None}}
    found: Spec = vl_convert.vegalite_to_vega({**spec, "config": plain})
    return found


@cache
def _library() -> str:
    """Returns Vega and Vega-Embed as a script."""
    import vl_convert

    found: str = vl_convert.javascript_bundle(_SNIPPET)
    if "</script" in found or "<!--" in found:  # would end the element that it lies in
        found = found.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return found


def _text(name: str) -> str:
    return files("seta.report.inspection").joinpath("template", name).read_text(encoding="utf-8")
