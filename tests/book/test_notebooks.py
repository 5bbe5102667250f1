"""The notebooks are committed executed, and the comparison of their outputs finds what it should.

nbval passes a cell that has neither an execution count nor an output whatever the cell now prints. The first part of
this file therefore checks that every notebook was stored as it ran.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from torch import optim

from scaleinv import UNITS, Unit

LONGEST = 25  # lines of a code cell; most are about a dozen

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
TEXTS = [ROOT / "README.md", *sorted((ROOT / "book").rglob("*.md"))]
SHOWING = {"print", "display", "claim", "predict", "verdict"}
DIRECTIVE = re.compile(r"^(?:`{3,}|:{3,})\{figure\}.*?^(?:`{3,}|:{3,})\s*$", re.MULTILINE | re.DOTALL)
EXEMPT = re.compile(r"^\s*#+\s*(NBVAL_|PYTEST_VALIDATE_)", re.MULTILINE)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def plain_texts(cell):
    """The outputs of a cell as text: streams and displayed data."""
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]


def claim_lines(notebook):
    lines = [text for cell in code_cells(notebook) for text in plain_texts(cell) if text.startswith("claim ")]
    return [re.match(r"claim (\S+) \((\w+)\): .* \(expected .*\) ✓(?: \[.+\])?$", line, re.DOTALL) for line in lines]


def calls(body):
    """How often each function is called by name, outside of functions, classes and conditionals."""
    counts, todo = Counter(), list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.Try, ast.IfExp)):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            counts[node.func.id] += 1
        todo += ast.iter_child_nodes(node)
    return counts


def statements(cell):
    return ast.parse(re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)).body


def shows(cell):
    """Whether a cell displays or prints something: its last line is an expression, or it calls one of ``SHOWING``."""
    body = statements(cell)
    if body and isinstance(body[-1], ast.Expr) and not cell.source.rstrip().endswith(";"):
        return True
    return any(calls(body)[name] for name in SHOWING)


def execution_faults(notebook):
    cells, faults = code_cells(notebook), []
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        faults.append(f"execution counts {[cell.execution_count for cell in cells]}")
    for cell in cells:
        if shows(cell) and not cell.outputs:
            faults.append(f"no output is stored: {cell.source}")
        lines = sum(text.startswith("claim ") for text in plain_texts(cell))
        if lines < calls(statements(cell))["claim"]:
            faults.append(f"{lines} claims are stored: {cell.source}")
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"an error is stored: {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr":
                faults.append(f"stderr is stored: {output.text}")
    return faults


def claim_faults(notebook):
    lines = claim_lines(notebook)
    if not lines:
        return ["no claim"]
    if None in lines:
        return ["a line that begins like a claim is not one"]
    if code_cells(notebook)[-1].source.strip() != "verdict()":
        return ["the last code cell is not verdict()"]
    numbers = [line[1] for line in lines]
    if numbers != sorted(numbers, key=lambda number: [int(part) for part in number.split(".")]):
        return [f"the claims are not in order: {numbers}"]
    (shown,) = plain_texts(code_cells(notebook)[-1])
    says = re.fullmatch(r"verdict: (\d+) checks \(.*\) of the claims (.*): all hold ✓", shown)
    right = says and int(says[1]) == len(lines) and says[2] == ", ".join(dict.fromkeys(numbers))
    return [] if right else [f"the verdict is {shown} and should name {numbers}"]


def prediction_faults(notebook):
    """Laws that no earlier cell predicts, and predictions that no law checks."""
    predicted, checked, faults = {}, set(), []
    for place, cell in enumerate(code_cells(notebook)):
        lines = plain_texts(cell)
        laws = {match[1] for line in lines if (match := re.match(r"claim (\S+) \(law\)", line))}
        faults += [f"law {number} is not predicted in an earlier cell" for number in laws if number not in predicted]
        checked |= laws
        predicted |= {match[1]: place for line in lines if (match := re.match(r"prediction (\S+):", line))}
    return faults + [f"no law checks prediction {number}" for number in predicted if number not in checked]


def figure_faults(notebook):
    faults = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and any("image/png" in output.get("data", {}) for output in cell.outputs):
            described = cell.metadata.get("mystnb", {})
            figure, image = described.get("figure", {}), described.get("image", {})
            for place, key in ((figure, "caption"), (figure, "name"), (image, "alt")):
                if not str(place.get(key, "")).strip():
                    faults.append(f"a figure without {key}: {cell.source}")
        elif cell.cell_type == "markdown":
            faults += [f"an image without alt: {image}" for image in re.findall(r"!\[\s*\]\(.*?\)", cell.source)]
            for image in DIRECTIVE.findall(cell.source):
                faults += [f"{image} without {key}" for key in ("alt", "name") if not re.search(rf":{key}: *\S", image)]
    return faults


def figure_names(notebook):
    return [cell.metadata["mystnb"]["figure"]["name"] for cell in notebook.cells if "mystnb" in cell.metadata]


def comparison_faults(notebook):
    """Cells that ask nbval not to compare them."""
    tags = {"raises-exception", "skip-execution"}
    return [
        cell.source
        for cell in code_cells(notebook)
        if EXEMPT.search(cell.source)
        or any(tag in tags or tag.startswith("nbval-") for tag in cell.metadata.get("tags", []))
    ]


def length_faults(notebook):
    return [cell.source for cell in code_cells(notebook) if len(cell.source.splitlines()) > LONGEST]


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_a_notebook_is_stored_as_it_ran_from_top_to_bottom(path):
    assert execution_faults(read(path)) == []


@every_notebook
def test_a_notebook_makes_claims_and_its_verdict_names_them_all(path):
    assert claim_faults(read(path)) == []


@every_notebook
def test_a_law_is_predicted_in_an_earlier_cell(path):
    assert prediction_faults(read(path)) == []


@every_notebook
def test_every_figure_has_a_caption_a_name_and_an_alternative_text(path):
    assert figure_faults(read(path)) == []


def test_no_two_figures_have_the_same_name():
    names = Counter(name for path in NOTEBOOKS for name in figure_names(read(path)))
    assert [name for name, count in names.items() if count > 1] == []


@every_notebook
def test_no_cell_is_exempt_from_the_comparison(path):
    assert comparison_faults(read(path)) == []


@every_notebook
def test_code_cells_are_short(path):
    assert length_faults(read(path)) == []


@every_notebook
def test_no_text_has_a_control_character(path):
    """As a ``\\b`` of a formula that was written without its second backslash becomes."""
    sources = ["".join(cell["source"]) for cell in read(path)["cells"]]
    assert [source for source in sources if re.search(r"[\x00-\x09\x0b-\x1f]", source)] == []


def test_the_table_of_contents_names_every_notebook_and_only_existing_files():
    def files(entry):
        if isinstance(entry, dict):
            yield from (entry[key] for key in ("root", "file") if key in entry)
            entry = list(entry.values())
        if isinstance(entry, list):
            for part in entry:
                yield from files(part)

    named = list(files(yaml.safe_load((ROOT / "_toc.yml").read_text())))
    assert {str(path.relative_to(ROOT).with_suffix("")) for path in NOTEBOOKS} <= set(named)
    assert [name for name in named if not any((ROOT / f"{name}{end}").exists() for end in (".md", ".ipynb"))] == []
    assert len(set(named)) == len(named)


# The comparison finds what it should: a small notebook, executed and stored, and a copy of it with mistakes.

CELLS = {
    "import": "from functools import partial\nfrom scaleinv.book import claims\n"
    "from scaleinv.book.claims import about, predict, verdict\nclaim = partial(claims.claim, kind='identity')",
    "figure": "claim('0.1', 'two and two', 2 + 2, equals=4)",
    "roughly": "claim('0.2', 'a third', {'of 1': 1 / 3}, at_most=1)",
    "bound": "claim('0.3', 'a third again', 1 / 3, at_most=1)",
    "predicted": "five = predict('0.4', 'two and three', 5)",
    "raises": "claim('0.4', 'two and three', 2 + 3, kind='law', equals=five)",
    "printed": "print('about the third:', about(1 / 3))\nprint('and no more')",
    "removed": "print('something')",
    "one of two": "claim('0.5', 'one', 1, equals=1)\nclaim('0.6', 'two', 2, equals=2)",
    "never run": "print('something else')",
    "verdict": "verdict()",
}


def wrong(notebook):
    """A copy of the notebook with a change in most of its cells."""
    notebook = nbformat.from_dict(notebook)
    cell = dict(zip(CELLS, notebook.cells))

    def edit(name, old, new):
        for output in cell[name].outputs:
            for shown, key in ((output, "text"), (output.get("data"), "text/plain"), (output.get("data"), "text/html")):
                if shown and key in shown:
                    assert old in shown[key]
                    shown[key] = shown[key].replace(old, new)

    edit("figure", "4", "5")
    edit("roughly", "≈ 0.33", "≈ 0.34")
    edit("bound", "≤ 1", "≤ 2")
    cell["raises"].source = cell["raises"].source.replace("2 + 3", "2 + 4")
    edit("printed", "≈ 0.33", "≈ 0.3325")
    cell["removed"].outputs = []
    del cell["one of two"].outputs[1]
    cell["never run"].outputs, cell["never run"].execution_count = [], None
    return notebook


@pytest.fixture(scope="module")
def executed():
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS.values()])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()


@pytest.fixture(scope="module")
def compared(executed, tmp_path_factory):
    """Notebook → cell → whether nbval, with the options of the project, passed it."""
    folder = tmp_path_factory.mktemp("notebooks")
    nbformat.write(executed, folder / "stored.ipynb")
    nbformat.write(wrong(executed), folder / "wrong.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-rA", "--color=no", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    passed = {"stored": {}, "wrong": {}}
    outcomes = re.compile(r"^(PASSED|FAILED) \S*?(\w+)\.ipynb::Cell (\d+)", re.MULTILINE)
    for outcome, name, number in outcomes.findall(done.stdout):
        passed[name][list(CELLS)[int(number)]] = outcome == "PASSED"
    assert done.returncode == 1 and [len(cells) for cells in passed.values()] == [len(CELLS)] * 2, done.stdout
    return passed


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_stored_as_it_ran_passes(compared, cell):
    assert compared["stored"][cell]


@pytest.mark.parametrize("cell", ["figure", "bound", "raises", "removed", "one of two", "verdict"])
def test_a_cell_with_an_edited_or_missing_output_or_a_failing_claim_fails(compared, cell):
    assert not compared["wrong"][cell]


@pytest.mark.parametrize("cell", ["import", "roughly", "printed"])
def test_a_measurement_that_differs_a_little_passes(compared, cell):
    assert compared["wrong"][cell]


def test_a_cell_that_was_never_run_passes_the_comparison_and_fails_here(compared, executed):
    assert compared["wrong"]["never run"]
    assert execution_faults(executed) == []
    cells = [cell if name != "never run" else new_code_cell(cell.source) for name, cell in zip(CELLS, executed.cells)]
    faults = execution_faults(new_notebook(cells=cells))
    assert len(faults) == 2 and "execution counts" in faults[0] and "something else" in faults[1]


# The checks of the first part of this file find what they should.


def changed(notebook, **changes):
    """A copy of the notebook in which some cells have another attribute: cell=(attribute, value)."""
    notebook = nbformat.from_dict(notebook)
    for name, (attribute, value) in changes.items():
        notebook.cells[list(CELLS).index(name)][attribute] = value
    return notebook


def test_no_fault_is_found_in_a_correct_notebook(executed):
    every = (execution_faults, claim_faults, prediction_faults, figure_faults, comparison_faults, length_faults)
    for faults in every:
        assert faults(executed) == []


@pytest.mark.parametrize(
    "cell, attribute, value, says",
    [
        ("printed", "execution_count", 2, "execution counts"),
        ("printed", "outputs", [], "no output"),
        ("figure", "outputs", [], "no output"),
        ("figure", "outputs", [new_output("stream", text="4")], "0 claims"),
        ("printed", "outputs", [new_output("error", ename="ValueError", evalue="", traceback=[])], "an error"),
        ("printed", "outputs", [new_output("stream", name="stderr", text="oh")], "stderr"),
    ],
)
def test_a_cell_that_was_not_stored_as_it_ran_is_found(executed, cell, attribute, value, says):
    faults = execution_faults(changed(executed, **{cell: (attribute, value)}))
    assert faults and says in "".join(faults)


@pytest.mark.parametrize(
    "source, result",
    [
        ("x = 1", False),
        ("def f():\n    print(1)", False),
        ("_ = ax.legend()", False),
        ("ax.legend();", False),
        ("if x:\n    print(1)", False),
        ("for x in y:\n    print(x)", True),
        ("with f() as x:\n    display(x)\nx = 1", True),
        ("table", True),
        ("table.T", True),
        ("f(x)", True),
        ("%matplotlib inline\nx", True),
    ],
)
def test_whether_a_cell_shows_something_is_read_from_its_source(source, result):
    assert shows(new_code_cell(source)) is result


def test_claims_that_the_verdict_does_not_name_are_found(executed):
    def without(*names):
        return new_notebook(cells=[cell for name, cell in zip(CELLS, executed.cells) if name not in names])

    assert claim_faults(without("figure")) and claim_faults(without("verdict"))
    assert claim_faults(without("printed")) == []
    assert claim_faults(new_notebook(cells=[new_markdown_cell("# A page")])) == ["no claim"]


def test_claims_out_of_order_are_found(executed):
    first, *others, verdict = [cell for name, cell in zip(CELLS, executed.cells) if name != "import"]
    assert "not in order" in claim_faults(new_notebook(cells=[*others, first, verdict]))[0]


def test_a_law_without_a_prediction_in_an_earlier_cell_is_found(executed):
    cells = dict(zip(CELLS, executed.cells))
    predicted, law = cells["predicted"], cells["raises"]
    together = new_code_cell("both", outputs=[*predicted.outputs, *law.outputs])
    for wrong in ([law], [law, predicted], [together]):
        assert "not predicted" in prediction_faults(new_notebook(cells=wrong))[0]
    assert "no law" in prediction_faults(new_notebook(cells=[predicted]))[0]
    assert prediction_faults(new_notebook(cells=[predicted, law])) == []


@pytest.mark.parametrize("missing", ["caption", "name", "alt"])
def test_figures_without_a_description_are_found(missing):
    described = {"figure": {"caption": "A line.", "name": "fig-line"}, "image": {"alt": "A line."}}
    drawn = [new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})]
    cell = new_code_cell("ax.plot(x)", outputs=drawn, metadata={"mystnb": described})
    assert figure_faults(new_notebook(cells=[cell])) == []
    for part in described.values():
        part.pop(missing, None)
    cell = new_code_cell("ax.plot(x)", outputs=drawn, metadata={"mystnb": described})
    assert len(figure_faults(new_notebook(cells=[cell]))) == 1


@pytest.mark.parametrize(
    "markdown, count",
    [
        ("![a line](line.png)", 0),
        ("![](line.png)", 1),
        ("```{figure} line.png\n:alt: a line\n:name: fig-line\nA line.\n```", 0),
        ("```{figure} line.png\n:alt:\nA line.\n```", 2),
        (":::{figure} line.png\n:name: fig-line\nA line.\n:::", 1),
    ],
)
def test_images_without_a_description_are_found(markdown, count):
    assert len(figure_faults(new_notebook(cells=[new_markdown_cell(markdown)]))) == count


@pytest.mark.parametrize(
    "source, tags",
    [("# NBVAL_SKIP\nx", []), ("x", ["nbval-ignore-output"]), ("x", ["raises-exception"])],
)
def test_a_cell_exempt_from_the_comparison_is_found(source, tags):
    assert comparison_faults(new_notebook(cells=[new_code_cell(source, metadata={"tags": tags})])) == [source]


def test_a_long_cell_is_found():
    cells = [new_code_cell("\n".join(["x = 1"] * n)) for n in (LONGEST, LONGEST + 1)]
    assert length_faults(new_notebook(cells=cells)) == [cells[1].source]


def test_claims_quoted_in_texts_are_claims_of_the_book():
    stored = {line[0] for path in NOTEBOOKS for line in claim_lines(read(path)) if line}
    for path in filter(Path.exists, TEXTS):
        assert set(re.findall(r"^claim .*✓$", path.read_text(), re.MULTILINE)) <= stored, path.name


# The table of units in the introduction.


def unit_of(latex):
    """A Unit from a formula such as $L^{-1}W^2$, a tuple from several, such as $L$ and $W$, None from a dash."""
    units = []
    for formula in re.findall(r"\$(.*?)\$", latex):
        power = re.compile(r"([LW])(?:\^(?:\{(-?\d+)\}|(\d)))?")
        assert power.sub("", formula).replace(r"\,", "").strip() in ("", "1"), latex
        exponents = {symbol: int(braced or digit or 1) for symbol, braced, digit in power.findall(formula)}
        units.append(Unit(loss=exponents.get("L", 0), weight=exponents.get("W", 0)))
    assert units or latex == "–", latex
    return tuple(units) if len(units) > 1 else units[0] if units else None


def test_formulas_are_read_as_units():
    written = {"$L^{-1}W^2$": "L⁻¹ W²", r"$L\,W^{-1}$": "L W⁻¹", "$W$": "W", "$1$": "1", "$L^2W^{-2}$": "L² W⁻²"}
    assert {latex: str(unit_of(latex)) for latex in written} == written
    assert unit_of("$LW^{-1}$ and $W$") == (Unit(1, -1), Unit(0, 1)) and unit_of("–") is None
    for unclear in ("$LX$", "W", "$L/W$"):
        with pytest.raises(AssertionError):
            unit_of(unclear)


def test_the_units_of_the_introduction_are_those_of_the_library():
    text = (ROOT / "book" / "intro.md").read_text()
    table = re.search(r"^\| optimizer \|(.*\n\|)*.*", text, re.MULTILINE)[0]
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines()]
    assert len(header) >= 4 and len(rows) >= 4
    for name, *formulas in rows:
        table = UNITS[getattr(optim, name)].hyperparameters
        assert [unit_of(formula) for formula in formulas] == [table.get(column) for column in header[1:]], name


def test_the_units_of_the_glossary_are_those_of_the_library():
    rows = re.findall(r"^\|.*\| `(\w+)` \| (\S+) \|", (ROOT / "book" / "glossary.md").read_text(), re.MULTILINE)
    units = UNITS[optim.AdamW].hyperparameters | UNITS[optim.AdamW].state
    compared = {name: unit_of(formula) for name, formula in rows if name in units}
    assert set(compared) == {"lr", "eps", "betas", "weight_decay", "exp_avg", "exp_avg_sq", "step"}
    assert compared == {name: units[name] for name in compared}
