"""Keep the book small: load MathJax in parts rather than in one file, and delete files that no page asks for.

A page needs the parts of MathJax that read TeX, set it and make it audible. MathJax's menu is as large as all of them.
The parts that are loaded are listed in ``_config.yml``, under ``mathjax3_config``.
"""

from pathlib import Path

MATHJAX = ("startup.js", "core.js", "input/tex.js", "input/tex/extensions", "output/chtml", "a11y/assistive-mml.js")


def load_parts(app, config):
    config.mathjax_path = "mathjax/startup.js"  # sphinx-mathjax-offline sets the file that holds everything


def prune(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    mathjax = static / "mathjax"
    for path in [*static.rglob("*.map"), static / "scripts" / "fontawesome.js", *mathjax.rglob("*")]:
        if mathjax in path.parents and path.relative_to(mathjax).as_posix().startswith(MATHJAX):
            continue
        if path.is_file():
            path.unlink()


def setup(app):
    app.connect("config-inited", load_parts)
    app.connect("build-finished", prune, priority=900)  # after the files have been copied
    return {"parallel_read_safe": True}
