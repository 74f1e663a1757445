"""The site in a real browser: its search finds, and nothing on it is asked for elsewhere."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.browser import in_a_browser

pytestmark = in_a_browser
ROOT = Path(__file__).resolve().parent.parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Builds the site and serves it: its search needs a server."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        check=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("InfoBatch", "InfoBatch"),  # all words of few letters and numbers once broke the index
        ("none of the batches of epoch 0 was answered", "Troubleshooting"),
        ("token_losses", "token_losses"),
        ("wrong labels", "wrong labels"),
        ("0.5", "0.5"),
    ],
)
@pytest.mark.parametrize("width", [1280, 400])
def test_the_search_finds(site, browser, asked, page, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    heard = []
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("request", lambda request: heard.append(request.url) if site not in request.url else 0)
    try:
        tab.goto(site + "index.html")
        tab.click("label[for=__search].md-header__button" if width < 900 else ".md-search__input")
        tab.fill(".md-search__input", asked)
        tab.press(".md-search__input", "End")  # it looks at what is there when a key is let go
        found = tab.wait_for_selector(".md-search-result__item", timeout=60_000)
        assert page.lower() in found.inner_text().lower()
        assert not [one for one in heard if not one.startswith(("data:", "blob:"))]
    finally:
        tab.close()
