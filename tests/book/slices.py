"""Which cells of a notebook have to run before some of its claims can be made."""

import ast
import builtins
import symtable
from functools import cache

SHOWING = {"claim", "predict", "print", "display"}  # what is passed to these is not changed


def cells_for(sources, start, claims):
    """The indices, from ``start`` on, of the cells that make these claims and of all that they need.

    A cell needs those that assign, or may change in place, a name that it uses, or that a function it uses uses.  What
    is changed in place is told from the text: ``a.x = 1``, ``a[i] = 1``, ``a.append(1)``, ``step(a)`` change ``a``.
    """
    making = {
        claim: {i for i in range(start, len(sources)) if any(may_be(made, claim) for made in claims_of(sources[i]))}
        for claim in claims
    }
    if not all(making.values()):
        return range(start, len(sources))
    wanted = set().union(*making.values())
    chosen = set(wanted)
    names = used_by(sources, set().union(*(uses(sources[i]) for i in wanted)))
    while True:
        more = {i for i in range(start, max(wanted) + 1) if i not in chosen and changes(sources[i]) & names}
        if not more:
            return sorted(chosen)
        chosen |= more
        names = used_by(sources, names.union(*(uses(sources[i]) for i in more)))


@cache
def claims_of(source):
    """Number and statement of each claim that a cell makes, with "…" for what is not known before it runs."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "claim" and call.args]
    return {" ".join(arg.value if isinstance(arg, ast.Constant) else "…" for arg in call.args[:2]) for call in named}


def is_named(made, claim):
    """ "4.1" names all statements of claim 4.1 and none of 4.10."""
    return made == claim or made.startswith(claim + " " * (" " not in claim))


def may_be(made, claim):
    """Whether a claim that a cell makes may be one that is named so."""
    known, _, unknown = made.partition("…")
    return is_named(made, claim) or (made != known + unknown and claim.startswith(known))


def used_by(sources, names):
    """The names, and those that the functions and classes of these names use."""
    names = set(names)
    while True:
        more = set().union(*(inner for source in sources for name, inner in definitions(source) if name in names))
        if more <= names:
            return names
        names |= more


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
    return names - set(dir(builtins))


@cache
def changes(source):
    """The global names that a cell assigns or may change in place."""
    table, tree = symtable.symtable(source, "cell", "exec"), ast.parse(source)
    assigned = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    in_place = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            in_place.add(root(node))
        elif isinstance(node, ast.AugAssign):
            in_place.add(root(node.target))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and root(node.value.func) not in SHOWING:
            in_place |= {root(part) for part in [node.value.func, *node.value.args]}
    return assigned | (in_place & (uses(source) | assigned))


def root(node):
    """``a`` of ``a.b[0].c()``; None where there is no such name."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
