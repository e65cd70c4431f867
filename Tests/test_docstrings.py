"""Docstrings of public names are whole: what ruff's rules, which see one file, do not know."""

import importlib
import inspect
import re

import pytest

# Where the documentation takes names from; slow_net and fast_net mirror the scripts of 2019.
HOMES = [
    "_support.threads",
    "critical",
    "curvature",
    "curvature.tensors",
    "dynamics",
    "influence",
    "interop",
    "laplace",
    "linalg",
    "mlp",
    "nets",
    "optimizers",
    "optimizers.comparison",
    "problems",
    "sklearn",
    "solve",
    "spectra",
]


def callables(module):
    """(name, function, what its docstring is of) of all that is public."""
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing):
            yield name, thing, thing
        elif inspect.isclass(thing) and not issubclass(thing, Exception):
            yield name, thing, thing
            for attribute, member in vars(thing).items():
                member = getattr(member, "__func__", member)
                if inspect.isfunction(member) and not attribute.startswith("_"):
                    # One that overrides another without a docstring has the other's.
                    yield f"{name}.{attribute}", member, getattr(thing, attribute)


def listed(text, title):
    """Names that a section of a docstring lists."""
    section = re.search(rf"^{title}\n-+\n((?:.*\n?)*?)(?=^\w[\w ]*\n-+$|\Z)", text, re.M)
    lines = section.group(1).splitlines() if section else []
    heads = [line.split(" : ")[0] for line in lines if line and not line.startswith(" ")]
    return {word.strip().lstrip("*") for head in heads for word in head.split(",")}


@pytest.mark.parametrize("home", HOMES)
def test_public_functions_say_what_they_take_and_return(home):
    lacking = []
    for name, plain, bound in callables(importlib.import_module(f"swiftnets.{home}")):
        text = inspect.getdoc(bound) or ""
        if not text:
            lacking.append(f"{name}: no docstring")
            continue
        if getattr(plain, "_is_protocol", False) or "made by" in text:
            continue  # none is made by hand
        signature = inspect.signature(plain)
        given = {
            parameter for parameter in signature.parameters if parameter not in ("self", "cls")
        }
        missing = given - listed(text, "Parameters")
        if inspect.isclass(plain):
            missing -= listed(text, "Attributes")
        if missing:
            lacking.append(f"{name}: {', '.join(sorted(missing))}")
        returns = not inspect.isclass(plain) and signature.return_annotation not in ("None", None)
        if returns and given and not re.search(r"^(Returns|Yields)\n-+$", text, re.M):
            lacking.append(f"{name}: what it returns")
    assert not lacking, "\n".join(lacking)
