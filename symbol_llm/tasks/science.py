r"""Descriptions of molecules to SMILES: ChEBI-20.

The generator builds a molecule from parts, chains, rings, acids, alcohols, amines and residues, each a name and the
SMILES of its own construction, and describes it in ChEBI's way. No library writes the SMILES.

A part is written `inwards`, its last atom taking the bond, or `outwards`, its first atom taking it: `CC(=O)` and
`C(=O)C` are acetyl. A double bond between carbons k and k+1 of a chain is `/C=C\` if Z and `/C=C/` if E, either way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows

NAME = "chebi20"
INSTRUCTION = "Write the molecule in SMILES."
LICENCE = "BSD-3-Clause (repository); ChEBI text CC BY 4.0"

STEMS = (
    "", "meth", "eth", "prop", "but", "pent", "hex", "hept", "oct", "non", "dec", "undec", "dodec", "tridec", "tetradec",
    "pentadec", "hexadec", "heptadec", "octadec", "nonadec", "icos", "henicos", "docos",
)  # fmt: skip
COUNTS = ("", "", "di", "tri", "tetra")
SUBSTITUENTS = {
    "hydroxy": "O", "chloro": "Cl", "fluoro": "F", "bromo": "Br", "iodo": "I", "methyl": "C", "ethyl": "CC", "propyl": "CCC",
    "propan-2-yl": "C(C)C", "tert-butyl": "C(C)(C)C", "methoxy": "OC", "ethoxy": "OCC", "amino": "N", "nitro": "[N+](=O)[O-]",
    "cyano": "C#N", "formyl": "C=O", "acetyl": "C(C)=O", "carboxy": "C(=O)O", "sulfanyl": "S", "methylsulfanyl": "SC",
    "trifluoromethyl": "C(F)(F)F", "dimethylamino": "N(C)C", "methylamino": "NC", "hydroxymethyl": "CO",
    "carbamoyl": "C(N)=O", "acetamido": "NC(C)=O", "methylsulfonyl": "S(C)(=O)=O", "methoxycarbonyl": "C(=O)OC",
    "acetyloxy": "OC(C)=O", "vinyl": "C=C", "ethynyl": "C#C", "cyclopropyl": "C9CC9", "phenyl": "c9ccccc9",
    "benzyl": "Cc9ccccc9", "phenoxy": "Oc9ccccc9",
}  # fmt: skip
PLAIN = ("hydroxy", "chloro", "fluoro", "bromo", "iodo", "methyl", "ethyl", "methoxy", "amino", "cyano")
RINGS: dict[str, tuple[tuple[int, str], ...]] = {
    "benzene": ((1, "c1"), (2, "c"), (3, "c"), (4, "c"), (5, "c"), (6, "c1")),
    "pyridine": ((0, "n1"), (2, "c"), (3, "c"), (4, "c"), (5, "c"), (6, "c1")),
    "pyrimidine": ((0, "n1"), (2, "c"), (0, "n"), (4, "c"), (5, "c"), (6, "c1")),
    "pyrazine": ((0, "n1"), (2, "c"), (3, "c"), (0, "n"), (5, "c"), (6, "c1")),
    "thiophene": ((0, "s1"), (2, "c"), (3, "c"), (4, "c"), (5, "c1")),
    "furan": ((0, "o1"), (2, "c"), (3, "c"), (4, "c"), (5, "c1")),
    "pyrrole": ((0, "[nH]1"), (2, "c"), (3, "c"), (4, "c"), (5, "c1")),
    "naphthalene": ((1, "c1"), (2, "c"), (3, "c"), (4, "c"), (0, "c2"), (5, "c"), (6, "c"), (7, "c"), (8, "c"), (0, "c12")),
    "quinoline": ((0, "n1"), (2, "c"), (3, "c"), (4, "c"), (0, "c2"), (5, "c"), (6, "c"), (7, "c"), (8, "c"), (0, "c12")),
    "indole": ((0, "[nH]1"), (2, "c"), (3, "c"), (0, "c2"), (4, "c"), (5, "c"), (6, "c"), (7, "c"), (0, "c12")),
    "cyclopentane": ((1, "C1"), (2, "C"), (3, "C"), (4, "C"), (5, "C1")),
    "cyclohexane": ((1, "C1"), (2, "C"), (3, "C"), (4, "C"), (5, "C"), (6, "C1")),
    "cycloheptane": ((1, "C1"), (2, "C"), (3, "C"), (4, "C"), (5, "C"), (6, "C"), (7, "C1")),
    "oxane": ((0, "O1"), (2, "C"), (3, "C"), (4, "C"), (5, "C"), (6, "C1")),
    "piperidine": ((1, "N1"), (2, "C"), (3, "C"), (4, "C"), (5, "C"), (6, "C1")),
}  # fmt: skip
"""For each atom in turn, its position, or 0 if nothing can be attached, and its text."""
EVEN = ("benzene", "cyclopentane", "cyclohexane", "cycloheptane")
"""Rings whose positions are equivalent, so that numbering starts at a group."""
SIDE_CHAINS = {
    "alanine": "C", "valine": "C(C)C", "leucine": "CC(C)C", "serine": "CO", "phenylalanine": "Cc1ccccc1",
    "tyrosine": "Cc1ccc(O)cc1", "tryptophan": "Cc1c[nH]c2ccccc12", "aspartic acid": "CC(=O)O", "glutamic acid": "CCC(=O)O",
    "asparagine": "CC(N)=O", "glutamine": "CCC(N)=O", "lysine": "CCCCN", "arginine": "CCCNC(N)=N",
    "histidine": "Cc1cnc[nH]1", "cysteine": "CS", "methionine": "CCSC", "2-aminobutanoic acid": "CC", "norvaline": "CCC",
    "norleucine": "CCCC", "ornithine": "CCCN", "homoserine": "CCO",
}  # fmt: skip
RESIDUES = {
    "glycine": "NCC(=O)",
    "L-proline": "N1CCC[C@H]1C(=O)",
    "L-threonine": "N[C@@H]([C@H](O)C)C(=O)",
    "L-isoleucine": "N[C@@H]([C@@H](C)CC)C(=O)",
    **{f"L-{name}": f"N[C@@H]({chain})C(=O)" for name, chain in SIDE_CHAINS.items()},
    **{f"D-{name}": f"N[C@H]({chain})C(=O)" for name, chain in SIDE_CHAINS.items()},
}
ALCOHOLS = {
    "methanol": "OC", "ethanol": "OCC", "propan-1-ol": "OCCC", "propan-2-ol": "OC(C)C", "butan-1-ol": "OCCCC",
    "butan-2-ol": "OC(C)CC", "2-methylpropan-1-ol": "OCC(C)C", "tert-butanol": "OC(C)(C)C", "pentan-1-ol": "OCCCCC",
    "pentan-3-ol": "OC(CC)CC", "3-methylbutan-1-ol": "OCCC(C)C", "hexan-1-ol": "OCCCCCC", "octan-1-ol": "OCCCCCCCC",
    "cyclopentanol": "OC1CCCC1", "cyclohexanol": "OC1CCCCC1", "benzyl alcohol": "OCc1ccccc1", "2-phenylethanol": "OCCc1ccccc1",
    "phenol": "Oc1ccccc1", "allyl alcohol": "OCC=C", "prop-2-yn-1-ol": "OCC#C", "2-methoxyethanol": "OCCOC",
    "2,2,2-trifluoroethanol": "OCC(F)(F)F", "2-chloroethanol": "OCCCl", "4-methylphenol": "Oc1ccc(C)cc1",
}  # fmt: skip
AMINES = {
    "methylamine": "NC", "ethylamine": "NCC", "propan-2-amine": "NC(C)C", "butan-1-amine": "NCCCC", "hexan-1-amine": "NCCCCCC",
    "dimethylamine": "N(C)C", "diethylamine": "N(CC)CC", "cyclopropanamine": "NC1CC1", "cyclohexanamine": "NC1CCCCC1",
    "aniline": "Nc1ccccc1", "4-fluoroaniline": "Nc1ccc(F)cc1", "3-chloroaniline": "Nc1cc(Cl)ccc1", "benzylamine": "NCc1ccccc1",
    "2-phenylethylamine": "NCCc1ccccc1", "piperidine": "N1CCCCC1", "pyrrolidine": "N1CCCC1", "morpholine": "N1CCOCC1",
    "ethanolamine": "NCCO", "2-methoxyethylamine": "NCCOC", "tert-butylamine": "NC(C)(C)C", "N-methylaniline": "N(C)c1ccccc1",
    "3-aminopyridine": "Nc1cnccc1", "tyramine": "NCCc1ccc(O)cc1", "histamine": "NCCc1cnc[nH]1",
}  # fmt: skip
METALS = {"sodium": "[Na+]", "potassium": "[K+]", "lithium": "[Li+]", "ammonium": "[NH4+]"}
HALIDES = {"hydrochloride": "Cl", "hydrobromide": "Br", "hydriodide": "I"}


HEADS = {"phosphocholine": "P(=O)([O-])OCC[N+](C)(C)C", "phosphoethanolamine": "P(=O)(O)OCCN", "phosphate": "P(=O)(O)O"}
COENZYME_A = "SCCNC(=O)CCNC(=O)[C@@H](C(C)(C)COP(=O)(O)OP(=O)(O)OC[C@@H]1[C@H]([C@H]([C@@H](O1)N2C=NC3=C(N=CN=C32)N)O)OP(=O)(O)O)O"


class ChebiRow(Row):
    """A line of ChEBI-20."""

    id: str
    SMILES: str
    description: str


def read(folder: Path) -> Iterator[Problem]:
    r"""Yield the rows of ChEBI-20 in `folder`, with backslashes that the source doubled restored."""
    for split, row in read_rows(folder, ChebiRow):
        smiles = row.SMILES.strip().replace("\\\\", "\\")
        yield _problem(row.description.strip(), smiles, split=split, source=f"{NAME} {row.id}", licence=LICENCE)


def _problem(description: str, smiles: str, **fields: Any) -> Problem:
    text = {"instruction": INSTRUCTION, "question": description, "program": smiles}
    return Problem.of(task=NAME, family="smiles", **text, **fields)


# --- parts ------------------------------------------------------------------------------------------------------------


class Acid(NamedTuple):
    """A carboxylic acid: its name, and its acyl group written either way."""

    name: str
    inwards: str
    outwards: str


def chain(n: int, branches: Mapping[int, str], doubles: Mapping[int, str] = {}) -> str:  # noqa: B006 - never changed
    """Return carbons 1 to n with `branches` by position and Z or E by the first carbon of a double bond."""
    text = ""
    for k in range(1, n + 1):
        bond = "=" if k - 1 in doubles else "/" if k in doubles and k > 1 else ""
        if k - 2 in doubles:
            bond = "\\" if doubles[k - 2] == "Z" else "/"
        text += f"{bond}C{branches.get(k, '')}"
    return text


def ring(name: str, branches: Mapping[int, str], digits: str = "12", start: int = 1) -> str:
    """Return the ring with `branches` by position. It is written from position `start` on if nothing else is fused."""
    atoms = RINGS[name]
    if start != 1:
        first = next(n for n, (position, _) in enumerate(atoms) if position == start)
        turned = [(p, text.rstrip("1")) for p, text in (*atoms[first:], *atoms[:first])]
        atoms = tuple((p, f"{text}1" if n in (0, len(turned) - 1) else text) for n, (p, text) in enumerate(turned))
    text = "".join(f"{atom}({branches[p]})" if p in branches else atom for p, atom in atoms[:-1])
    last, atom = atoms[-1]
    plain = text + atom + branches.get(last, "")
    return plain if digits == "12" else "".join(_renumbered(plain, digits))


def _renumbered(text: str, digits: str) -> Iterator[str]:
    for sign in text:
        yield digits["12".index(sign)] if sign in "12" else sign


def straight_acid(n: int) -> Acid:
    """Return the unbranched saturated acid with n carbons."""
    name = "acetic acid" if n == 2 else f"{STEMS[n]}anoic acid"
    return Acid(name, f"{'C' * (n - 1)}C(=O)", f"C(=O){'C' * (n - 1)}")


def unsaturated_acid(n: int, doubles: Mapping[int, str]) -> Acid:
    """Return the unbranched acid with n carbons and double bonds, none next to another or to an end."""
    places = sorted(doubles)
    stereo = ",".join(f"{k}{doubles[k]}" for k in places)
    stem = f"{STEMS[n]}{'a' if len(places) > 1 else ''}-{','.join(map(str, places))}-{COUNTS[len(places)]}enoic acid"
    outwards = chain(n, {1: "(=O)"}, doubles)
    mirrored = chain(n, {n: "(=O)"}, {n - k: way for k, way in doubles.items()})
    return Acid(f"({stereo})-{stem}", mirrored, outwards)


def substituted_acid(n: int, groups: Mapping[int, str]) -> Acid:
    """Return the unbranched acid with n carbons and the groups at their positions, of which 1 is the carboxy carbon."""
    out = {1: "(=O)", **{k: f"({SUBSTITUENTS[name]})" for k, name in groups.items()}}
    mirrored = {n + 1 - k: text for k, text in out.items()}
    return Acid(f"{_prefix(groups)}{STEMS[n]}anoic acid", chain(n, mirrored), chain(n, out))


def benzoic_acid(groups: Mapping[int, str]) -> Acid:
    """Return benzoic acid with the groups at their positions, of which 1 is the carboxy group's."""
    texts = {k: SUBSTITUENTS[name] for k, name in groups.items()}
    inwards = f"{ring('benzene', texts, start=2)}C(=O)"
    return Acid(f"{_prefix(groups)}benzoic acid", inwards, f"C(=O){ring('benzene', texts, digits='34')}")


def _prefix(groups: Mapping[int, str]) -> str:
    """Return the groups as the front of a name, in alphabetical order: `3-chloro-2-methyl`."""
    by_name: dict[str, list[int]] = {}
    for k, name in sorted(groups.items()):
        by_name.setdefault(name, []).append(k)
    parts = []
    for name, places in sorted(by_name.items(), key=lambda item: item[0].removeprefix("tert-")):
        shown = name if not name[0].isdigit() and "-" not in name and name not in _COMPLEX else f"({name})"
        parts.append(f"{','.join(map(str, places))}-{COUNTS[len(places)]}{shown}")
    return "-".join(parts)


_COMPLEX = ("methylsulfanyl", "trifluoromethyl", "dimethylamino", "methylamino", "hydroxymethyl", "methylsulfonyl",
            "methoxycarbonyl", "acetyloxy")  # fmt: skip


def _groups(rng: random.Random, positions: list[int], n: int, names: tuple[str, ...]) -> dict[int, str]:
    few = rng.sample(names, min(n, rng.choice((1, 2, 3))))
    return {k: rng.choice(few) for k in rng.sample(positions, n)}


def _acid(rng: random.Random, level: int) -> Acid:
    kinds: list[Callable[[], Acid]] = [lambda: straight_acid(rng.randint(2, 12 if level > 1 else 8))]
    if level > 1:
        n = rng.randint(4, 9)
        kinds += [
            lambda: substituted_acid(n, _groups(rng, list(range(2, n + 1)), rng.choice((1, 1, level - 1)), PLAIN)),
            lambda: benzoic_acid(_groups(rng, [2, 3, 4, 5, 6], rng.choice((1, level)), PLAIN)),
            lambda: _fatty_acid(rng, rng.randint(1, level)),
        ]
    return rng.choice(kinds)()


def _fatty_acid(rng: random.Random, n_doubles: int) -> Acid:
    first = rng.randint(2, 9)
    places = [first + 3 * i for i in range(n_doubles)]
    n = rng.randint(places[-1] + 3, max(places[-1] + 4, 20))
    return unsaturated_acid(min(n, 22), {k: rng.choice("ZZE") for k in places})


# --- molecules --------------------------------------------------------------------------------------------------------


class Molecule(NamedTuple):
    """A description's content, and the SMILES."""

    text: str
    smiles: str


def generate(rng: random.Random, level: int) -> Problem:
    """Level 1 has a chain or ring with a group or two, 2 two parts joined, 3 several parts or many groups."""
    molecule = rng.choice(KINDS[level])(rng, level)
    opening = rng.choice(("The molecule is", "The molecule is", "It is", "The compound is"))
    description = f"{opening} {_an(molecule.text)}."
    return _problem(description, molecule.smiles, split="train", source="generated", licence="Apache-2.0")


def _an(text: str) -> str:
    if text.startswith(("the ", "any ")):
        return text
    return f"{'an' if text[0] in 'aeio' or text.startswith(('un', 'N-')) else 'a'} {text}"


def _at(groups: Mapping[int, str]) -> str:
    """Return the groups in words: `a chloro group at position 2 and methyl groups at positions 3 and 5`."""
    by_name: dict[str, list[int]] = {}
    for k, name in sorted(groups.items()):
        by_name.setdefault(name, []).append(k)
    parts = [
        f"{_an(name)} group at position {places[0]}"
        if len(places) == 1
        else f"{name} groups at positions {_listed([str(k) for k in places])}"
        for name, places in by_name.items()
    ]
    return _listed(parts)


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _alkane(rng: random.Random, level: int) -> Molecule:
    n = rng.randint(3, 10 if level == 1 else 14)
    wanted = rng.choice((1, 1, 2)) if level == 1 else rng.randint(2, 4)
    groups = _groups(rng, list(range(1, n + 1)), min(n, wanted), PLAIN if level == 1 else tuple(SUBSTITUENTS))
    if 2 * sum(groups) > (n + 1) * len(groups):  # numbered from the other end, as a chemist would
        groups = {n + 1 - k: name for k, name in groups.items()}
    texts = {k: SUBSTITUENTS[name] for k, name in groups.items()}
    smiles = chain(n, {k: f"({text})" if k < n else text for k, text in texts.items()})
    wording = rng.choice(
        ("{0} substituted by {1}", "{0} carrying {1}", "{0} bearing {1}", "compound that is {0} with {1}")
    )
    return Molecule(wording.format(f"{STEMS[n]}ane", _at(groups)), smiles)


def _ring_with_groups(rng: random.Random, level: int) -> Molecule:
    name = rng.choice(list(RINGS)[:1] * 4 + list(RINGS))
    positions = [p for p, _ in RINGS[name] if p and not (name == "piperidine" and p == 1 and level == 1)]
    wanted = {1: rng.choice((1, 1, 2)), 2: rng.choice((2, 3)), 3: rng.choice((3, 4))}[level]
    usual = tuple(SUBSTITUENTS) if level > 1 else PLAIN
    names = tuple(g for g in usual if g not in ("nitro", "amino", "hydroxy", "iodo")) if name == "piperidine" else usual
    groups = _groups(rng, positions, wanted, names)
    if name in EVEN:
        groups = {k - min(groups) + 1: group for k, group in groups.items()}
    texts = {k: SUBSTITUENTS[group] for k, group in groups.items()}
    described = _at(groups)
    free = [p for p in positions if p not in groups and not (name == "piperidine" and p == 1)]
    if level == 3 and free and rng.random() < 0.5:
        place = rng.choice(free)
        inner = _groups(rng, [2, 3, 4, 5, 6], rng.choice((1, 2)), PLAIN)
        texts[place] = ring("benzene", {k: SUBSTITUENTS[group] for k, group in inner.items()}, digits="34")
        described += f", and by a {_prefix(inner)}phenyl group at position {place}"
    kind = rng.choice(("member of the class of {0}s that is {0} substituted by {1}", "{0} substituted by {1}",
                       "{0} in which hydrogen is replaced by {1}", "{0} carrying {1}"))  # fmt: skip
    return Molecule(kind.format(name, described), ring(name, texts))


def _acid_alone(rng: random.Random, level: int) -> Molecule:
    if level == 1:
        n = rng.randint(3, 18)
        words = rng.choice((
            f"straight-chain saturated fatty acid with {n} carbons", STEMS[n] + "anoic acid",
            f"carboxylic acid whose acyl chain is unbranched and has {n} carbon atoms in all"))  # fmt: skip
        return Molecule(words, f"{straight_acid(n).inwards}O")
    acid = _fatty_acid(rng, level) if rng.random() < 0.5 else _acid(rng, level)
    words = rng.choice(("carboxylic acid that is {}", "monocarboxylic acid, {}", "fatty acid known as {}"))
    if "oct" not in acid.name and "dec" not in acid.name and "ico" not in acid.name:
        words = "carboxylic acid that is {}"
    return Molecule(words.format(acid.name), f"{acid.inwards}O")


def _simple_alcohol_or_amine(rng: random.Random, level: int) -> Molecule:
    if rng.random() < 0.3:
        kind, table = rng.choice((("hydroxy compound", ALCOHOLS), ("nitrogen compound", AMINES)))
        name = rng.choice(list(table))
        return Molecule(f"{kind} that is {name}", table[name])
    n = rng.randint(2, 12)
    k = rng.randint(1, (n + 1) // 2)
    suffix, text, kind = rng.choice((("ol", "O", "alcohol"), ("amine", "N", "amine"), ("thiol", "S", "thiol"),
                                     ("one", "=O", "ketone")))  # fmt: skip
    if suffix == "one":
        n, k = n + 2, min(k + 1, (n + 3) // 2)
    stem = f"{STEMS[n]}ane" if suffix == "thiol" else f"{STEMS[n]}an"
    smiles = chain(n, {k: f"({text})"})
    words = rng.choice((
        f"{kind} that is {stem}-{k}-{suffix}", f"{stem}-{k}-{suffix}",
        f"{kind} of an unbranched chain of {n} carbons, its functional group being at position {k}"))  # fmt: skip
    return Molecule(words, smiles)


def _ester(rng: random.Random, level: int) -> Molecule:
    acid, alcohol = _acid(rng, level), rng.choice(list(ALCOHOLS))
    words = rng.choice((
        "carboxylic ester obtained by the formal condensation of the carboxy group of {0} with the hydroxy group of {1}",
        "ester of {0} and {1}", "carboxylic ester resulting from the formal condensation of {1} with {0}",
        "ester in which {1} is acylated by {0}"))  # fmt: skip
    text = words.format(acid.name, alcohol) + _origin(rng, acid.name, alcohol)
    return Molecule(text, acid.inwards + ALCOHOLS[alcohol])


def _amide(rng: random.Random, level: int) -> Molecule:
    acid, amine = _acid(rng, level), rng.choice(list(AMINES))
    words = rng.choice((
        "carboxamide obtained by the formal condensation of the carboxy group of {0} with the amino group of {1}",
        "amide of {0} and {1}", "monocarboxylic acid amide resulting from the formal condensation of {1} with {0}",
        "N-acyl derivative of {1} whose acyl group is that of {0}"))  # fmt: skip
    text = words.format(acid.name, amine) + _origin(rng, acid.name, amine)
    return Molecule(text, acid.inwards + _moved(AMINES[amine]))


def _origin(rng: random.Random, *names: str) -> str:
    return f". It derives from {_listed([_an(name) for name in names])}" if rng.random() < 0.4 else ""


def _moved(text: str) -> str:
    """Return an amine with ring digits that no acyl group has, so that they close only its own ring."""
    return text.replace("1", "5")


def _salt(rng: random.Random, level: int) -> Molecule:
    kind = rng.choice(("anion", "metal", "halide"))
    if kind == "halide":
        amine, salt = rng.choice(list(AMINES)), rng.choice(list(HALIDES))
        words = rng.choice(("{1} salt of {0}", "{1} obtained by combining {0} with one equivalent of the acid"))
        return Molecule(words.format(amine, salt), f"{AMINES[amine]}.{HALIDES[salt]}")
    acid = _acid(rng, level)
    if kind == "anion":
        words = rng.choice((
            "monocarboxylic acid anion that is the conjugate base of {}",
            "carboxylic acid anion obtained by deprotonation of the carboxy group of {}; major species at pH 7.3",
            "carboxylate, the conjugate base of {}"))  # fmt: skip
        return Molecule(words.format(acid.name), f"{acid.inwards}[O-]")
    metal = rng.choice(list(METALS))
    words = rng.choice(("{1} salt that is the mono{1} salt of {0}", "organic {1} salt of {0}"))
    return Molecule(words.format(acid.name, metal), f"{acid.inwards}[O-].{METALS[metal]}")


def _peptide(rng: random.Random, level: int) -> Molecule:
    n = 2 if level == 2 else rng.randint(3, 6)
    names = rng.choices(list(RESIDUES), weights=[1 if name.startswith("D-") else 3 for name in RESIDUES], k=n)
    kind = ("dipeptide", "tripeptide", "tetrapeptide", "pentapeptide", "hexapeptide")[n - 2]
    joined = "a peptide linkage" if n == 2 else "peptide linkages"
    words = rng.choice((
        f"{kind} composed of {_listed(names)} joined by {joined}" if n == 2 else
        f"{kind} composed of {_listed(names)} joined in sequence by {joined}",
        f"{kind} formed from the residues {_listed(names)}, named from the N-terminus"))  # fmt: skip
    front, front_words = rng.choice((("", ""), ("", ""), ("CC(=O)", "acetylated at the N-terminus")))
    end, end_words = rng.choice(
        (("O", ""), ("O", ""), ("N", "with a C-terminal carboxamide"), ("OC", "as its C-terminal methyl ester"))
    )
    if level == 2:
        front, front_words, end, end_words = "", "", "O", ""
    more = ", ".join(text for text in (front_words, end_words) if text)
    return Molecule(f"{words}{', ' if more else ''}{more}", front + "".join(RESIDUES[name] for name in names) + end)


def _triglyceride(rng: random.Random, _: int) -> Molecule:
    acids = [straight_acid(rng.randint(2, 18)) if rng.random() < 0.5 else _fatty_acid(rng, 1) for _ in range(3)]
    one, two, three = acids
    words = rng.choice((
        "triglyceride in which the hydroxy groups of glycerol at positions 1, 2 and 3 are acylated by {0}, {1} and {2}",
        "triglyceride obtained by formal acylation of glycerol with {0} at position 1, {1} at position 2 and {2} at position 3",
    ))  # fmt: skip
    smiles = f"{one.inwards}OCC(O{two.outwards})CO{three.outwards}"
    return Molecule(words.format(one.name, two.name, three.name), smiles)


def _phospholipid(rng: random.Random, _: int) -> Molecule:
    one, two = (straight_acid(rng.randint(12, 20)) if rng.random() < 0.5 else _fatty_acid(rng, 2) for _ in range(2))
    head = rng.choice(list(HEADS))
    words = rng.choice((
        "1,2-diacyl-sn-glycero-3-{0} in which the acyl groups at positions 1 and 2 are those of {1} and {2}",
        "sn-glycero-3-{0} acylated by {1} at position 1 and by {2} at position 2"))  # fmt: skip
    smiles = f"{one.inwards}OC[C@H](CO{HEADS[head]})O{two.outwards}"
    return Molecule(words.format(head, one.name, two.name), smiles)


def _acyl_coa(rng: random.Random, level: int) -> Molecule:
    acid = _acid(rng, level)
    words = rng.choice((
        "acyl-CoA that results from the formal condensation of the thiol group of coenzyme A with the carboxy group of {}",
        "thioester of coenzyme A and {}"))  # fmt: skip
    return Molecule(words.format(acid.name) + _origin(rng, acid.name, "coenzyme A"), acid.inwards + COENZYME_A)


KINDS: dict[int, tuple[Callable[[random.Random, int], Molecule], ...]] = {
    1: (_alkane, _ring_with_groups, _acid_alone, _simple_alcohol_or_amine),
    2: (_alkane, _ring_with_groups, _acid_alone, _ester, _amide, _salt, _peptide),
    3: (_ring_with_groups, _ester, _amide, _peptide, _peptide, _triglyceride, _phospholipid, _acyl_coa),
}

TASKS = (
    Task(
        NAME,
        "smiles",
        INSTRUCTION,
        shots=(
            ("", "The molecule is a primary alcohol that is nonan-1-ol.", "CCCCCCCCCO"),
            ("", "The molecule is the para-isomer of nitrotoluene.", "Cc1ccc(cc1)[N+](=O)[O-]"),
            ("", "The molecule is the L-enantiomer of alanine.", "C[C@H](N)C(=O)O"),
            (
                "",
                "The molecule is the disodium salt of (E)-but-2-enedioic acid.",
                "[O-]C(=O)/C=C/C(=O)[O-].[Na+].[Na+]",
            ),
        ),
        licence=LICENCE,
        citation="Edwards et al. 2022, Translation between Molecules and Natural Language (MolT5)",
        folder="science/chebi20",
        read=read,
        generate=generate,
        published=Published(34, "EM", 35629, 3300),
    ),
)
