"""Make tables of data frames readable by screen readers: the empty header above the index becomes a plain cell."""

from docutils import nodes


def without_empty_headers(app, doctree, page):
    for node in doctree.findall(nodes.raw):
        if node.get("format") == "html" and "<th></th>" in node.astext():
            node.children = [nodes.Text(node.astext().replace("<th></th>", "<td></td>"))]


def setup(app):
    app.connect("doctree-resolved", without_empty_headers)
    return {"parallel_read_safe": True}
