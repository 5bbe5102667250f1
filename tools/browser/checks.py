"""One visit to a page: open it in a browser, collect what it did, ask it what checks.js asks."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag

SCRIPT = (Path(__file__).parent / "checks.js").read_text()
WIDTHS = (360, 768, 1280)
HEIGHT = 900
SETTLED = 500  # milliseconds after which the theme has followed a change of width
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass
class Visit:
    """What one load of a page showed. ``found`` counts (check, what was found)."""

    page: str
    scheme: str
    over: str
    found: Counter = field(default_factory=Counter)
    requests: list = field(default_factory=list)
    milliseconds: float = 0.0
    ids: set = field(default_factory=set)
    links: list = field(default_factory=list)
    explorer: bool = False

    def add(self, findings, width=None):
        where = f"{self.over}, {self.scheme}" + (f", {width} px" if width else "")
        for check, what in findings:
            self.found[check, what, where] += 1


@contextmanager
def listening(page, site, visit):
    """What the page asks for and complains of goes to the visit."""

    def on_request(request):
        visit.requests.append(request.url)
        if not site.owns(request.url):
            visit.add([("requests", f"asks {request.url[:100]}")])

    def on_response(response):
        if response.status >= 400 and site.owns(response.url):
            visit.add([("requests", f"{response.status}: {site.name_of(response.url)}")])

    def on_failed(request):
        if site.owns(request.url) and request.failure != "net::ERR_ABORTED":
            visit.add([("requests", f"{request.failure}: {site.name_of(request.url)}")])

    def on_console(message):
        if message.type == "error" and not message.text.startswith("Failed to load resource"):  # told by the above
            visit.add([("console", message.text[:200])])

    listeners = {
        "request": on_request,
        "response": on_response,
        "requestfailed": on_failed,
        "console": on_console,
        "websocket": lambda socket: visit.add([("requests", f"asks {socket.url}")]),
        "pageerror": lambda error: visit.add([("console", f"uncaught: {str(error)[:200]}")]),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        yield
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)


async def resize(page, width):
    await page.set_viewport_size({"width": width, "height": HEIGHT})
    await page.evaluate(FRAMES)


async def visit_page(page, site, name, scheme, over, *, axe=None, widths=WIDTHS, also=None):
    """Load a page of the site in a page of the browser, and check it at each width.

    axe: the script of axe-core, or None to leave that check out.  also: a coroutine function of (page, visit).
    """
    visit = Visit(name, scheme, over)
    with listening(page, site, visit):
        await page.goto("about:blank")
        await page.set_viewport_size({"width": widths[0], "height": HEIGHT})
        await page.goto(site.bases[over] + name, wait_until="load")
        await page.evaluate(SCRIPT)
        visit.milliseconds = await page.evaluate("bookChecks.ready()")
        await page.evaluate("bookChecks.unfold()")
        for check in ("mathematics()", "images()", f"scheme('{scheme}')"):
            visit.add(await page.evaluate(f"bookChecks.{check}"))
        anchors = await page.evaluate("bookChecks.anchors()")
        visit.ids, visit.links = set(anchors["ids"]) - {""}, anchors["links"]
        if axe:
            await page.evaluate(axe)
        for width in widths:
            await resize(page, width)
            visit.add(await page.evaluate("bookChecks.width()"), width)
            if axe and scheme == "light":  # all rules but those of colours are blind to it
                await page.wait_for_timeout(SETTLED)
                await accessible(page, visit, width, of_colours=False)
        if also:
            await also(page, visit)
        if axe:
            await page.evaluate("bookChecks.thin()")
            for width in widths:
                await resize(page, width)
                await accessible(page, visit, width, of_colours=True)
    return visit


async def accessible(page, visit, width, *, of_colours):
    visit.add(await page.evaluate("(colours) => bookChecks.accessible(colours)", of_colours), width)


def check_links(visits, site):
    """Every link to a page or file of the site's own, and to a place on a page, has to lead there."""
    ids = {}
    for visit in visits:
        ids.setdefault(visit.page.partition("?")[0], set()).update(visit.ids)
    for visit in visits:
        for url, text in visit.links:
            address, fragment = map(unquote, urldefrag(url))
            name = site.name_of(address)
            if name is None:
                if address.startswith(("file:", "http://127.0.0.1")):
                    visit.add([("links", f"{text!r} leads out of the book, to {address}")])
                continue
            name = name or "index.html"
            if not (site.root / name).is_file():
                visit.add([("links", f"{text!r} leads to {name}, which is not there")])
            elif fragment and name in ids and fragment not in ids[name]:
                visit.add([("links", f"{text!r} leads to #{fragment}, which is not on {name}")])
