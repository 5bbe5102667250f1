"""A small sound page, and pages with one fault each: what the checks have to find, and what they have to let pass."""

import base64

PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1 id="top">A page</h1>{}</main></body></html>"""
SOUND = (
    f'<p>Words, <code>$PATH</code> and <a href="sound.html#top">a link</a>.</p><img src="{PNG}" alt="A dot">'
    '<div style="overflow-x: auto" tabindex="0"><table style="width: 2000px"><tr><td>A wide one</td></tr></table></div>'
    '<span class="math"><mjx-container></mjx-container></span>'
)

EXPLORER = """<div data-explorer>
<label>optimizer <select name="optimizer"><option>Adam</option><option>SGD</option></select></label>
<label>k <input type="range" name="log2-k" min="-5" max="5" value="0"></label>
<label>lr <input type="range" name="log10-lr" min="-6" max="3" step="0.1" value="0"></label>
<label>keep <input type="checkbox" name="keep"></label><output data-readout>0</output>
<svg aria-hidden="true"><path data-path="function" d="M0 0"/><path data-path="parameter" d="M0 0"/></svg></div>
<script>
const [k, lr, keep] = ["log2-k", "log10-lr", "keep"].map((name) => document.querySelector(`input[name=${name}]`));
k.addEventListener("input", () => {
  const [f, p] = ["function", "parameter"].map((name) => document.querySelector(`path[data-path=${name}]`));
  if (keep.checked) lr.value = k.value / 2; ELSE
  for (const path of FOLLOW) path.setAttribute("d", `M0 ${k.value}`);
  document.querySelector("output").textContent = k.value;
});</script>"""

# name of a page → the one check that has to find something, and the page's body.
FAULTS = {
    "outside-script": ("requests", '<script src="https://cdn.example.com/x.js"></script>'),
    "outside-address": ("requests", '<script src="http://192.0.2.1/x.js"></script>'),
    "outside-fetch": ("requests", "<script>fetch('https://example.com/count').catch(() => 0)</script>"),
    "missing-script": ("requests", '<script src="nowhere.js"></script>'),
    "console-error": ("console", "<script>console.error('wrong')</script>"),
    "page-error": ("console", "<script>throw new Error('wrong')</script>"),
    "rejection": ("console", "<script>Promise.reject(new Error('wrong'))</script>"),
    "raw-dollar": ("mathematics", "<p>As $x^2$ grows</p>"),
    "raw-bracket": ("mathematics", r"<p>As \(x^2\) grows</p>"),
    "not-set": ("mathematics", r'<span class="math">\(x\)</span>'),
    "set-wrongly": ("mathematics", "<mjx-container><mjx-merror data-mjx-error='wrong'>x</mjx-merror></mjx-container>"),
    "empty-image": ("images", '<img src="data:image/png;base64,AAAA" alt="Nothing">'),
    "no-place": ("links", '<a href="sound.html#nowhere">a place</a>'),
    "no-place-here": ("links", '<a href="#nowhere">a place</a>'),
    "no-page": ("links", '<a href="nowhere.html">a page</a>'),
    "wide": ("width", '<div style="width: 1400px">wide</div>'),
    "cut-off": ("width", '<div style="overflow: hidden"><p style="width: 1400px">cut off</p></div>'),
    "no-label": ("axe", '<input type="range" name="k">'),
    "out-of-reach": ("axe", '<pre style="overflow: auto; width: 200px">' + 50 * "long" + "</pre>"),
    "pale": ("axe", '<p style="color: #bbb; background: #fff">Pale words</p>'),
    "dark": ("scheme", "<script>document.documentElement.dataset.theme = 'dark'</script>"),
    "slow": ("time", "<script>MathJax = {startup: {promise: new Promise((done) => setTimeout(done, 2100))}}</script>"),
    "heavy": ("weight", '<img src="heavy.png" alt="A dot">'),
}
FREE = "else f.setAttribute('d', `M0 ${k.value}`);"
EXPLORERS = {
    "explorer": (set(), EXPLORER.replace("ELSE", FREE).replace("FOLLOW", "[p]")),
    "explorer-loose": ({"explorer"}, EXPLORER.replace("ELSE", "").replace("FOLLOW", "[f, p]")),
    "explorer-stiff": ({"explorer"}, EXPLORER.replace("ELSE", "").replace("FOLLOW", "[p]")),
}
TWO = {
    "missing-image": ({"requests", "images"}, '<img src="nowhere.png" alt="Nothing">'),
    "no-alt": ({"images", "axe"}, f'<img src="{PNG}">'),
}


def write(folder):
    """Write the pages, and return name → the checks that have to find something."""
    pages = {"sound": (set(), ""), **{name: ({check}, body) for name, (check, body) in FAULTS.items()}}
    pages.update(EXPLORERS | TWO)
    for name, (_, body) in pages.items():
        (folder / f"{name}.html").write_text(PAGE.format(SOUND + body))
    dot = base64.b64decode(PNG.partition(",")[2])
    (folder / "heavy.png").write_bytes(dot + bytes(1_600_000))
    return {f"{name}.html": checks for name, (checks, _) in pages.items()}
