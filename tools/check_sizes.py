"""Finds products of sizes in the Swift sources that could overflow, which ends the process there.

    python tools/check_sizes.py [FILE OR FOLDER ...]

A size that comes from outside may be anything up to 2^31, and a product of three of them no longer
fits in 64 bits. So what says how much memory or work something takes is multiplied by
`saturating(…)` alone, and allocations and thread counts know what the largest integer means. Raw
`*` and `<<` are looked for where a size is made:

- in the arguments of what allocates, or weighs work: `Storage(…)`, `.padded(…)`, `forWork(of: …)`;
- in values that are named like a size: `let bytes = …`, `var operations: Int { … }`;
- in `Int32(…)`, which ends the process beyond 2^31.

Floating-point arithmetic is free, as are literals alone and a stride times something: a matrix with
that stride exists, and so do its products. Where a bound is known, the line says it, or the one
above, or for a whole file one above its first declaration: `// bounded: …` with the reason.
"""

import re
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "Sources"
WAIVER = re.compile(r"//+\s*bounded: \S")

# What takes sizes: by the name and the bracket, or by the label.
TAKES_SIZES = re.compile(
    r"(?<!func )(\b(?:Storage|Integers|FactorBuffer|ArenaMemory|ChunkSum|Int32|saturating|planes"
    r"|partsOfLarge|allocate|padded|forWork|outOfMemory|size)|\.take)(?:<[^<>()]*>)?\("
    r"|\b(Matrix)(?:<[^<>()]*>)?\((?=rows:)"
    r"|\b(repeating): [^,()]*, count:"
    r"|\b(weight):(?! Int\b)"
)
# Values that are sizes by their name: of a constant or variable, of a property, of a function.
NAMED = re.compile(
    r"\b(?:let|var|func)\s+(\w+)\s*(?:\([^()]*\)\s*(?:throws\(\w+\)\s*)?->\s*Int\s*|:\s*Int\s*)?[={]\s*"
)
SIZE_NAMES = re.compile(
    r"(?:count|bytes|size|length|capacity|operations|weight|order|above|below|room|parameters"
    r"|largest\w*|per[A-Z]\w*|\w+(?:Count|Bytes|Size|Length|Order|PerSample))$"
)
OPERAND = r"(?:[\w.$]|\([^()]*\)|\[[^\[\]]*\])+"
PRODUCT = re.compile(rf"({OPERAND}|\))\s*(?:(?<![*/&])\*(?!=)|(?<!&)<<)\s*({OPERAND}|\()")
FLOATING = re.compile(
    r"Double\(|Float\(|squareRoot|magnitude|cblas|\b\d+\.\d|\b0x[\da-f.]+p|\b\de\d"
)
LITERALS = re.compile(r"[\d_]+|MemoryLayout<\w+>\.stride")


def blanked(text):
    """The text without what comments and strings say; lines and columns stay."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*[\s\S]*?\*/', blank, text)


def end_of_piece(code, start, stops=""):
    """Where the bracket before `start` closes, or one of `stops` comes outside of others."""
    depth = 0
    for index in range(start, len(code)):
        if depth == 0 and code[index] in stops:
            return index
        depth += (code[index] in "([{") - (code[index] in ")]}")
        if depth < 0:
            return index
    return len(code)


def end_of_value(code, start):
    """Where the value of a declaration ends: at a line that does not go on in the next one."""
    end = end_of_piece(code, start, "\n")
    while end < len(code) and re.match(r"\s*(?:[?:+*/]|\|\||&&)", code[end:]):
        end = end_of_piece(code, end + 1, "\n")
    return end


def places(code):
    """(start, end, what it is) of each stretch of code that makes a size."""
    for match in TAKES_SIZES.finditer(code):
        stops = "," if match[0].endswith(":") else ""
        what = next(filter(None, match.groups()))
        yield match.end(), end_of_piece(code, match.end(), stops), f"given to {what.strip('.')}"
    for match in NAMED.finditer(code):
        if SIZE_NAMES.search(match[1]):
            end_of = end_of_value if "{" not in match[0] else end_of_piece
            yield match.end(), end_of(code, match.end()), match[1]


def products(code):
    """(index, description) of each raw product that makes a size."""
    found = {}
    for start, end, what in places(code):
        for match in PRODUCT.finditer(code, start, end):
            line = code[code.rfind("\n", 0, match.start()) + 1 :].split("\n")[0]
            sides = match.groups()
            is_literal = all(LITERALS.fullmatch(side) for side in sides)
            has_stride = any(re.fullmatch(r"(?!MemoryLayout).*[sS]tride", side) for side in sides)
            if not (is_literal or has_stride or FLOATING.search(line)):
                found.setdefault(match.start(), what)
    return sorted(found.items())


def check(path):
    text = path.read_text()
    lines = text.split("\n")
    head = re.match(r"(?:\s*(?://(?!/).*|import .*|))*", text)[0]
    if WAIVER.search(head):
        return
    for index, what in products(blanked(text)):
        number = text.count("\n", 0, index)
        above = lines[max(0, number - 1)].strip()
        if not (WAIVER.search(lines[number]) or WAIVER.match(above)):
            yield number + 1, f"a product makes a size ({what}): {lines[number].strip()}"


def main(arguments):
    given = [Path(argument) for argument in arguments] or [SOURCES]
    found = []
    for path in given:
        for file in sorted(path.rglob("*.swift")) if path.is_dir() else [path]:
            found += [f"{file}:{line}: {message}" for line, message in check(file)]
    if found:
        print(*found, sep="\n")
        sys.exit(
            f"{len(found)} products of sizes: multiply by saturating(…), or say // bounded: why"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
