"""A browser of the Chromium family, as the machine has it."""

import shutil
import sys
from contextlib import asynccontextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
MISSING = f"""no browser found: nothing is done.
Install one of {", ".join(NAMES)}, so that it stands on the PATH; on Debian: apt-get install chromium"""
ALONE = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]  # what a page asks of others is never sent


def find():
    """Its path; without one, says so and exits with 2."""
    if path := next(filter(None, map(shutil.which, NAMES)), None):
        return path
    print(MISSING, file=sys.stderr)
    sys.exit(2)


@asynccontextmanager
async def launched(path):
    from playwright.async_api import async_playwright  # not needed to say that there is no browser

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ALONE)
        try:
            yield browser
        finally:
            await browser.close()
