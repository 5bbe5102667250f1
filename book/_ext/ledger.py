"""The ledger: every claim that the pages of this build have made, and how many of each kind.

Claims are read from the outputs of the executed notebooks only, so a claim that did not run cannot be counted.

- ``{ledger}``: a table for each claim of the source. A line of the directive's content holds a mark, the source's claim
  in a few words, and the claims of the book that check it, by number or as ``6.*`` for a whole chapter::

      S1 | the gradient's scale cancels | 1.1 1.3 1.4

  A number that no page has made is a warning, and so is a claim of the book that no line names. Both fail the build.
- ``{claim-counts}``: a table of the pages, with the number of claims of each kind.
- ``{claim-count}`law` ``: the number of claims of a kind, or of ``all``, in a sentence.
"""

import re
from collections import Counter
from fnmatch import fnmatch
from html import escape
from typing import NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.logging import getLogger

CLAIM = re.compile(
    r'<p class="claim" id="(?P<anchor>[^"]+)"><b>claim (?P<number>\S+)</b> <em class="(?P<kind>\w+)">\w+</em> '
    r"<span>(?P<statement>.*?)</span>: <span>(?P<measured>.*?)</span> \(expected <span>(?P<expected>.*?)</span>\) ✓ "
    r"<small>(?P<scope>.*?)</small></p>"
)
KINDS = ("identity", "law", "observation")


class Ledger(nodes.General, nodes.Element):
    """A place for the tables, which is filled once all pages have been read."""


class Counts(nodes.General, nodes.Element):
    """A place for the table of counts."""


class Count(nodes.Inline, nodes.Element):
    """A place for one count."""


class LedgerDirective(SphinxDirective):
    has_content = True

    def run(self):
        lines = [[part.strip() for part in line.split("|")] for line in self.content if line.strip()]
        if bad := [line for line in lines if len(line) != 3]:
            raise self.error(f"ledger: {' | '.join(bad[0])!r} is not of the form: mark | words | claims")
        return [Ledger(lines=lines)]


class CountsDirective(SphinxDirective):
    def run(self):
        return [Counts()]


class CountRole(SphinxRole):
    def run(self):
        if self.text not in (*KINDS, "all"):
            message = self.inliner.reporter.error(f"claim-count: {self.text!r} is not one of {KINDS} or 'all'")
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        return [Count(kind=self.text)], []


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
    places = [place for kind in (Ledger, Counts, Count) for place in doctree.findall(kind)]
    claims = claims_of(app.env) if places else []
    for place in places:
        if isinstance(place, Ledger):
            new = nodes.raw("", ledger(app, page, place["lines"], claims), format="html")
        elif isinstance(place, Counts):
            new = nodes.raw("", counts(app, page, claims), format="html")
        else:
            new = nodes.Text(str(sum(place["kind"] in (claim.match["kind"], "all") for claim in claims)))
        place.replace_self(new)


def ledger(app, page, lines, claims):
    """A table for each line, and warnings for numbers without a claim and claims without a line."""
    named, html = set(), []
    for mark, words, patterns in lines:
        of_line = []
        for pattern in patterns.split():
            matching = [claim for claim in claims if fnmatch(claim.match["number"], pattern)]
            if not matching:
                warn(page, f"{mark} names claim {pattern}, which no page has made")
            of_line += matching
        named.update(of_line)
        rows = [row(app, page, claim) for claim in of_line]
        html.append(f"<h2>{escape(mark)}</h2><p>{escape(words)}</p>")
        html.append(table(("claim", "kind", "statement", "measured", "expected", "scope"), rows))
    for claim in claims:
        if claim not in named:
            warn(page, f"claim {claim.match['number']} of {claim.page} is on no line")
    return "\n".join(html)


def row(app, page, claim):
    number, kind = claim.match.group("number", "kind")
    link = f'<a href="{app.builder.get_relative_uri(page, claim.page)}#{claim.match["anchor"]}">{number}</a>'
    return (link, f'<em class="{kind}">{kind}</em>', *claim.match.group("statement", "measured", "expected", "scope"))


def counts(app, page, claims):
    """Page → how many claims of each kind, and their sums."""
    of_page = {claim.page: Counter() for claim in claims}
    for claim in claims:
        of_page[claim.page][claim.match["kind"]] += 1
    rows = []
    for name, of_kind in of_page.items():
        link = f'<a href="{app.builder.get_relative_uri(page, name)}">{escape(app.env.titles[name].astext())}</a>'
        rows.append((link, *(of_kind[kind] for kind in KINDS), of_kind.total()))
    total = sum(of_page.values(), Counter())
    return table(("page", *KINDS, "all"), [*rows, ("all", *(total[kind] for kind in KINDS), total.total())])


def table(titles, rows):
    header = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows)
    return (
        f'<div class="pst-scrollable-table-container"><table class="table ledger"><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def warn(page, message):
    getLogger(__name__).warning("ledger: %s", message, location=page)


def setup(app):
    for node in (Ledger, Counts, Count):
        app.add_node(node)
    app.add_directive("ledger", LedgerDirective)
    app.add_directive("claim-counts", CountsDirective)
    app.add_role("claim-count", CountRole())
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True}
