"""A light book: MathJax by its parts rather than in one file, and no file that no page asks for.

Of MathJax a page needs what reads TeX, what sets it and what makes it audible; its menu is as large as all of these.
The parts that are loaded stand in ``_config.yml``, under ``mathjax3_config``.
"""

from pathlib import Path

MATHJAX = ("startup.js", "core.js", "input/tex.js", "input/tex/extensions", "output/chtml", "a11y/assistive-mml.js")


def by_its_parts(app, config):
    config.mathjax_path = "mathjax/startup.js"  # as sphinx-mathjax-offline sets it: all in one


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
    app.connect("config-inited", by_its_parts)
    app.connect("build-finished", prune, priority=900)  # after the files have been copied
    return {"parallel_read_safe": True}
