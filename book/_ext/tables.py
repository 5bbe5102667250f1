"""Tables of data frames, for those who hear them: an empty header, above the index, is no header."""

from docutils import nodes


def without_empty_headers(app, doctree, page):
    for node in doctree.findall(nodes.raw):
        if node.get("format") == "html" and "<th></th>" in node.astext():
            node.children = [nodes.Text(node.astext().replace("<th></th>", "<td></td>"))]


def setup(app):
    app.connect("doctree-resolved", without_empty_headers)
    return {"parallel_read_safe": True}
