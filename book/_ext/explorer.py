"""Load the explorer's script on the pages that show its picture, and on no others."""


def add_script(app, page, template, context, doctree):
    if "/explorer.png" in context.get("body", ""):
        app.add_js_file("explorer.js")


def setup(app):
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True}
