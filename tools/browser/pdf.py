"""Print the book as one PDF, with an outline: python tools/browser/pdf.py SINGLEHTML OUT.pdf

SINGLEHTML is the folder that jupyter-book's builder of that name has made: all pages in one.
"""

import asyncio
import sys
from pathlib import Path

import chromium

MARGINS = dict.fromkeys(("top", "bottom", "left", "right"), "15mm")
READY = "async () => { await window.MathJax?.startup?.promise; await document.fonts.ready }"


def at_the_root(folder):
    """The one page, put where the builder takes it to be: its links to pictures and to its own places fit there."""
    (page,) = (folder / "book").glob("*.html")
    text = page.read_text().replace(f'href="{page.relative_to(folder).as_posix()}#', 'href="#')
    (folder / "all.html").write_text(text)
    return folder / "all.html"


async def write(page, out, executable):
    async with chromium.launched(executable) as browser:
        sheet = await browser.new_page(color_scheme="light")
        await sheet.goto(page.resolve().as_uri(), wait_until="load")
        await sheet.evaluate(READY)
        await sheet.pdf(path=out, format="A4", margin=MARGINS, outline=True, tagged=True)


if __name__ == "__main__":
    executable, (folder, out) = chromium.find(), map(Path, sys.argv[1:])
    asyncio.run(write(at_the_root(folder), out, executable))
    print(f"The book, printed: {out.resolve().as_uri()}")
