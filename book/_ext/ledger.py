"""The ledger: for each claim of the source, a table of the claims that the pages of this build have made.

A line of the directive's content holds a mark, the source's claim in a few words, and the claims of the book that check
it, by number or as ``6.*`` for a whole chapter::

    S1 | the gradient's scale cancels | 1.1 1.3 1.4

Claims are read from the outputs of the executed notebooks only, so a claim that did not run cannot be in the table.
A number that no page has made is a warning, and so is a claim of the book that no line names. Both fail the build.
"""

import re
from fnmatch import fnmatch
from html import escape
from typing import NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

CLAIM = re.compile(
    r'<p class="claim" id="(?P<anchor>[^"]+)"><b>claim (?P<number>\S+)</b> <span>(?P<statement>.*?)</span>: '
    r"<span>(?P<measured>.*?)</span> \(expected <span>(?P<expected>.*?)</span>\) ✓</p>"
)
HEADER = "".join(f"<th>{title}</th>" for title in ("claim", "statement", "measured", "expected", "verdict"))


class Ledger(nodes.General, nodes.Element):
    """A place for the table, which is filled once all pages have been read."""


class LedgerDirective(SphinxDirective):
    has_content = True

    def run(self):
        lines = [[part.strip() for part in line.split("|")] for line in self.content if line.strip()]
        if bad := [line for line in lines if len(line) != 3]:
            raise self.error(f"ledger: {' | '.join(bad[0])!r} is not of the form: mark | words | claims")
        return [Ledger(lines=lines)]


class Claim(NamedTuple):
    page: str
    match: re.Match


def claims_of(env):
    """The claims of all pages, in the order of their numbers."""
    claims = [
        Claim(page, match)
        for page in env.found_docs
        for node in env.get_doctree(page).findall(nodes.raw)
        for match in CLAIM.finditer(node.astext())
    ]
    return sorted(claims, key=lambda claim: [int(part) for part in re.findall(r"\d+", claim.match["anchor"])])


def fill(app, doctree, page):
    for ledger in list(doctree.findall(Ledger)):
        claims, named = claims_of(app.env), set()
        html = []
        for mark, words, patterns in ledger["lines"]:
            of_line = []
            for pattern in patterns.split():
                matching = [claim for claim in claims if fnmatch(claim.match["number"], pattern)]
                if not matching:
                    warn(page, f"{mark} names claim {pattern}, which no page has made")
                of_line += matching
            named.update(of_line)
            html.append(f"<h2>{escape(mark)}</h2><p>{escape(words)}</p>" + table(app, page, of_line))
        for claim in claims:
            if claim not in named:
                warn(page, f"claim {claim.match['number']} of {claim.page} is on no line")
        ledger.replace_self(nodes.raw("", "\n".join(html), format="html"))


def table(app, page, claims):
    rows = []
    for claim in claims:
        number, statement, measured, expected = claim.match.group("number", "statement", "measured", "expected")
        link = f'<a href="{app.builder.get_relative_uri(page, claim.page)}#{claim.match["anchor"]}">{number}</a>'
        rows.append("".join(f"<td>{cell}</td>" for cell in (link, statement, measured, expected, "holds ✓")))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="pst-scrollable-table-container"><table class="table ledger"><thead><tr>{HEADER}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def warn(page, message):
    getLogger(__name__).warning("ledger: %s", message, location=page)


def setup(app):
    app.add_node(Ledger)
    app.add_directive("ledger", LedgerDirective)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True}
