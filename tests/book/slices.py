"""Which cells of a notebook have to run before some of its claims can be made."""

import ast
import builtins
import symtable
from collections import Counter
from functools import cache

SHOWING = {"claim", "predict", "print", "display"}  # what is passed to these is not changed
RANDOM = {"torch", "np", "random"}  # modules with random numbers, which a call of theirs changes


def cells_for(sources, start, claims):
    """The indices, from ``start`` on, of the cells that make these claims and of all that they need.

    A cell needs those that assign, or may change in place, a name that it reads, or that a function it uses reads,
    before the name is assigned anew.  What is changed in place is told from the text: ``a.x = 1``, ``a[i] = 1``,
    ``a.append(1)``, ``step(a)`` change ``a``, if it is a variable: not a function, a class or a module.
    """
    making = {
        claim: {i for i in range(start, len(sources)) if any(may_be(made, claim) for made in claims_of(sources[i]))}
        for claim in claims
    }
    if not all(making.values()):
        return range(start, len(sources))
    wanted, chosen, names, fixed = set().union(*making.values()), [], set(), constants(sources)
    for i in range(max(wanted), start - 1, -1):
        if i in wanted or (assigned_in(sources[i]) | (changed_in_place(sources[i]) - fixed)) & names:
            chosen.insert(0, i)
            names = (names - assigns(sources[i])) | used_by(sources[: i + 1], reads(sources[i]))
    return chosen


@cache
def claims_of(source):
    """Number and statement of each claim that a cell makes, with "…" for what is not known before it runs."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "claim" and call.args]
    return {" ".join(text_of(arg, tree, call.lineno) for arg in call.args[:2]) for call in named}


def text_of(node, tree, line):
    """The text that an expression is at a line of a cell: names are what the cell last assigned to them before it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, tree, line) for part in node.values)
    if isinstance(node, ast.FormattedValue) and not node.format_spec:
        return text_of(node.value, tree, line)
    if isinstance(node, ast.Name):
        assigned = [(at, value) for at, name, value in assignments(tree) if name == node.id]
        before = [(at, value) for at, value in assigned if at < line]
        if before and len(assigned) == bindings(tree)[node.id]:
            return text_of(before[-1][1], tree, before[-1][0])
    return "…"


def bindings(tree):
    """name → how often it is bound, in whatever way."""
    return Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def assignments(tree):
    """(line, name, value) of each name assigned by a statement of a cell, ``a, b = x, y`` part by part."""
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts)
            yield from ((node.lineno, name, value) for part, value in pairs for name in bound_in(part))


def is_named(made, claim):
    """ "4.1" names all statements of claim 4.1 and none of 4.10."""
    return made == claim or made.startswith(claim + " " * (" " not in claim))


def may_be(made, claim):
    """Whether a claim that a cell makes may be one that is named so."""
    known, _, unknown = made.partition("…")
    return is_named(made, claim) or (made != known + unknown and claim.startswith(known))


def used_by(sources, names):
    """The names, and those that functions and classes of these names use, as the last of these cells leaves them."""
    latest = {name: inner for source in sources for name, inner in definitions(source)}
    names, todo = set(names), list(names)
    while todo:
        more = latest.get(todo.pop(), set()) - names
        names |= more
        todo += more
    return names


@cache
def definitions(source):
    """(name, the names that it uses) of each function and class of a cell."""
    nodes = ast.parse(source).body
    return [(node.name, uses(ast.unparse(node))) for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@cache
def uses(source):
    """The global names that a cell reads, in its functions too."""
    names, tables = set(), [symtable.symtable(source, "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module")
        }
    augmented = (node.target for node in ast.walk(ast.parse(source)) if isinstance(node, ast.AugAssign))
    return (names | {target.id for target in augmented if isinstance(target, ast.Name)}) - set(dir(builtins))


@cache
def reads(source):
    """The global names whose value before the cell it may read."""
    names, assigned = set(), set()
    for node in ast.parse(source).body:
        names |= read_by(node) - assigned
        assigned |= assigned_by(node)
    return names


def read_by(node):
    """The names that a statement may read before it assigns them: a loop and a block assign theirs first."""
    if isinstance(node, (ast.For, ast.With)):
        head = [item.context_expr for item in node.items] if isinstance(node, ast.With) else [node.iter]
        target = [item.optional_vars for item in node.items] if isinstance(node, ast.With) else [node.target]
        first = set().union(*(uses(ast.unparse(part)) for part in head))
        inner = reads("\n".join(map(ast.unparse, [*node.body, *getattr(node, "orelse", [])])))
        return first | (inner - set().union(*(bound_in(part) for part in target if part)))
    return uses(ast.unparse(node))


@cache
def assigns(source):
    """The global names that a cell gives a new value, whatever happens in it."""
    return set().union(*(assigned_by(node) for node in ast.parse(source).body))


def assigned_by(node):
    if isinstance(node, ast.Assign):
        return set().union(*(bound_in(target) for target in node.targets))
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.With):
        return set().union(*(assigned_by(inner) for inner in node.body))
    return set()


def bound_in(target):
    """The names that ``a``, ``(a, b)``, ``*a`` as a target bind, or targets inside; ``a.x`` and ``a[i]`` bind none."""
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def constants(sources):
    """The names that are never assigned, but imported or defined."""
    variables = set().union(*(bound_in(ast.parse(source)) for source in sources))
    return set().union(*map(assigns, sources)) - variables - RANDOM


@cache
def assigned_in(source):
    """The global names that a cell may assign."""
    table = symtable.symtable(source, "cell", "exec")
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}


@cache
def changed_in_place(source):
    """The global names whose values a cell may change."""
    in_place = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            in_place.add(root(node))
        elif isinstance(node, ast.AugAssign):
            in_place.add(root(node.target))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and root(node.value.func) not in SHOWING:
            in_place |= {root(node.value.func)} | {root(part) for part in node.value.args} - RANDOM
    return in_place & (uses(source) | assigned_in(source))


def root(node):
    """``a`` of ``a.b[0].c()``; None where there is no such name."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
