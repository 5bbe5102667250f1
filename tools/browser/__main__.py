"""Open every page of the rendered book in a real browser, served and from its files, and check it.

    python tools/browser [FOLDER]

First the checks are checked, on small pages with one fault each. Exit status: 0 when every check of every page holds,
1 when one does not, 2 when there is nothing to test with.
"""

import argparse
import asyncio
import fnmatch
import os
import sys
import tempfile
import time
from pathlib import Path

import chromium
import faults
from checks import check_links, visit_page
from explorer import PAGES, explore
from server import serve

WEIGHT, TIME = 1_500_000, 2_000  # bytes as served, milliseconds
CHECKS = ("requests", "console", "mathematics", "images", "links", "width", "scheme", "axe", "search", "explorer")
SEARCH = "search.html?q=learning+rate"


async def visit_many(browser, site, visits):
    """The results of many visits, each a dict of what visit_page takes; as many at a time as there are cores."""
    todo, done = list(enumerate(visits)), {}

    async def work():
        pages = {}
        while todo:
            number, visit = todo.pop(0)
            scheme = visit["scheme"]
            if scheme not in pages:
                pages[scheme] = await new_page(browser, scheme)
            done[number] = await visit_page(pages[scheme], site, **visit)
        for page in pages.values():
            await page.context.close()

    await asyncio.gather(*(work() for _ in range(os.cpu_count() or 1)))
    return [done[number] for number in sorted(done)]


async def new_page(browser, scheme):
    """A page with nothing cached."""
    return await (await browser.new_context(color_scheme=scheme, service_workers="block")).new_page()


async def measure(browser, site, page, *, tries=5):
    """Weight and time of a page loaded alone, with nothing cached: the fastest of some loads, if one is not enough."""
    visits = []
    while len(visits) < tries and (not visits or visits[-1].milliseconds > TIME):
        blank = await new_page(browser, "light")
        visits.append(await visit_page(blank, site, page, "light", "http", widths=(1280,)))
        await blank.context.close()
    best = min(visits, key=lambda visit: visit.milliseconds)
    sizes = {name: site.size(name) for name in map(site.name_of, best.requests) if name is not None}
    best.raw, best.weight = (sum(size[i] for size in sizes.values()) for i in (0, 1))
    best.found.clear()  # the other visits tell
    if best.weight > WEIGHT:
        best.add([("weight", f"{best.weight / 1e6:.2f} MB")])
    if best.milliseconds > TIME:
        best.add([("time", f"{best.milliseconds:.0f} ms")])
    return best


async def search(page, visit):
    """The search has to find something."""
    try:
        await page.wait_for_selector("#search-results li a", timeout=5000)
    except Exception:
        visit.add([("search", "finds nothing")])
    else:
        await page.wait_for_timeout(500)  # for the summaries of what it found


async def visit_all(browser, site, axe, *, pages, schemes=("light", "dark"), **how):
    visits = []
    for over, script in (("http", axe), ("file", None)):
        for scheme in schemes:
            where = {"scheme": scheme, "over": over, **how}
            visits += [{"name": page, "axe": script, "also": explore, **where} for page in pages]
            if (site.root / "search.html").exists():
                visits.append({"name": SEARCH, "also": search, **where})
    visits = await visit_many(browser, site, visits)
    check_links(visits, site)
    return visits


async def self_test(browser, axe):
    """Lines on what the checks do not find in pages with a fault, or find in one without."""
    with tempfile.TemporaryDirectory() as folder:
        expected = faults.write(Path(folder))
        with serve(folder) as site:
            measured = [await measure(browser, site, page, tries=1) for page in expected]
            visits = await visit_all(browser, site, axe, pages=list(expected), schemes=["light"], widths=[360])
    wrong = []
    for page, checks in expected.items():
        found = {check for visit in [*visits, *measured] if visit.page == page for check, _, _ in visit.found}
        if found != checks:
            wrong.append(f"{page}: expected {sorted(checks)}, found {sorted(found)}")
    return wrong


def report(measured, visits, seconds):
    """Print the table, the findings, the slowest and heaviest page; return how many checks fail."""
    kept = [check for check in CHECKS if check not in ("search", "explorer")]
    found = {}
    for visit in [*visits, *measured]:
        for check, what, where in visit.found:
            found.setdefault((visit.page, check), {}).setdefault(what, []).append(where)
    pages = list(dict.fromkeys(visit.page for visit in [*measured, *visits]))
    sizes = {visit.page: visit for visit in measured}
    explorers = {visit.page for visit in visits if visit.explorer}
    length = max(map(len, pages))
    print(f"{'page':{length}}   kB served   kB raw     ms  " + "  ".join([*kept, "other"]))
    for page in pages:
        size = sizes.get(page)
        numbers = f"{size.weight / 1e3:9.0f}{size.raw / 1e3:9.0f}{size.milliseconds:7.0f}" if size else " " * 25
        cells = [f"{len(found.get((page, check), ())) or '✓':>{len(check)}}" for check in kept]
        other = {check: len(what) for (of, check), what in found.items() if of == page and check not in kept}
        cells.append(", ".join(f"{check} {n}" for check, n in other.items()) or "explorer ✓" * (page in explorers))
        print(f"{page:{length}}   {numbers}  " + "  ".join(cells))
    for (page, check), whats in found.items():
        print(f"\n{page}: {check}")
        for what, where in whats.items():
            print(f"  {what}\n      ({'; '.join(dict.fromkeys(where))})")
    heaviest, slowest = max(measured, key=lambda v: v.weight), max(measured, key=lambda v: v.milliseconds)
    print(f"\nheaviest: {heaviest.page}, {heaviest.weight / 1e6:.2f} MB of {WEIGHT / 1e6:.1f} allowed")
    print(f"slowest: {slowest.page}, {slowest.milliseconds / 1e3:.2f} s of {TIME / 1e3:.0f} allowed")
    findings = sum(map(len, found.values()))
    print(f"{len(pages)} pages, {len(visits)} visits in {seconds:.0f} s: {findings or 'no'} findings")
    return len(found)


async def test(root, executable, only):
    from axe_playwright_python.base import AXE_FILE_PATH

    axe = Path(AXE_FILE_PATH).read_text()
    started = time.monotonic()
    async with chromium.launched(executable) as browser:
        print(f"{executable}, version {browser.version}")
        if wrong := await self_test(browser, axe):
            print("the checks themselves fail:", *wrong, sep="\n  ")
            return 1
        print(f"the checks find every fault of the faulty pages ({time.monotonic() - started:.0f} s)\n", flush=True)
        with serve(root) as site:
            pages = fnmatch.filter(site.pages, only)
            measured = [await measure(browser, site, page) for page in pages]
            visits = await visit_all(browser, site, axe, pages=pages)
    bad = report(measured, visits, time.monotonic() - started)
    for page in PAGES.intersection(pages) - {visit.page for visit in visits if visit.explorer}:
        print(f"{page}: has to hold an explorer, and does not")
        bad += 1
    return min(bad, 1)


def main():
    parser = argparse.ArgumentParser(prog="tools/browser", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default="_build/html", help="the rendered book")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="pages whose names match, such as 'book/4*'")
    folder, only = (arguments := parser.parse_args()).folder, arguments.only
    if not (folder / "index.html").exists():
        print(f"no rendered book in {folder}: make book", file=sys.stderr)
        return 2
    return asyncio.run(test(folder, chromium.find(), only))


if __name__ == "__main__":
    sys.exit(main())
