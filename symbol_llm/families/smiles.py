"""Molecules in SMILES (Weininger 1988). Equal means: RDKit gives both the same canonical SMILES.

    C[C@H](N)C(=O)O  and  OC(=O)[C@H](C)N  are both L-alanine

Atoms, bonds, charges, isotopes, atom maps, radicals, and stereochemistry at atoms and double bonds count; the order of
atoms and fragments, Kekulé or aromatic notation, and explicit hydrogens do not. Tautomers, protonation states and salts
are different molecules. Gold is `problem.program`, or else `problem.answer`, a SMILES; `environment` holds nothing.
`Result.value` also gives the Tanimoto similarity to gold (Morgan fingerprints, radius 2, 2048 bits), which shows how
far off a wrong molecule is and decides nothing.

RDKit reads hostile text only in the sandbox; its results are compared here. If repeated reading and writing cycles
through several SMILES, as for some cages, the least of them is canonical. Missed: stereochemistry that RDKit does not
canonicalise (axes, some symmetric cages), names or extensions after the SMILES (refused).
"""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator

from symbol_llm.families import Example, Needs, Ran, Result
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.sandbox import executor

VERSION = 4
METRIC = "canonical SMILES"

MAX_CHARS = 4000
"""Longest SMILES, five times the longest of 600 from ChEBI-20."""
MAX_PASSES = 8
MAX_KNOWN = 4096
"""Most molecules cached, since `canonical`, `score` and each reply's gold ask for the same ones."""


class Molecule(NamedTuple):
    """RDKit's description of a SMILES."""

    canonical: str
    bits: frozenset[int]
    isolation: str


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


_SAID = re.compile(r"\A(?:the )?smiles(?: string| notation)?(?: is)?[ \t]*:?[ \t]*(?=\S)", re.IGNORECASE)


def program_of(reply: str) -> str:
    """Return the SMILES in `reply`, without words before it, quotes, bold type and a full stop."""
    text = _SAID.sub("", replies.up_to_a_blank_line(reply)).removesuffix(".")
    for mark in ("**", '"', "'", "`"):
        if (
            len(text) > 2 * len(mark)
            and text.startswith(mark)
            and text.endswith(mark)
            and mark not in text[len(mark) : -len(mark)]
        ):
            text = text[len(mark) : -len(mark)]
    return text.strip().removesuffix(".")


def canonical(program: str) -> str:
    """Return RDKit's canonical SMILES; `program` is read in the sandbox under the default limits."""
    return _molecule(program, Limits()).canonical


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return RDKit's canonical SMILES."""
    molecule = _molecule(program, limits)
    return Ran(molecule.canonical, "", molecule.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` is the gold molecule, else 0.0."""
    found = _molecule(program, limits)
    text = problem.program or problem.answer
    if not text or not isinstance(text, str):
        raise InvalidInput(f"problem {problem.id} has no gold SMILES")
    try:
        gold = _molecule(text, limits)
    except (Unparsable, LimitExceeded) as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: gold: {e}") from e
    tanimoto = len(found.bits & gold.bits) / max(1, len(found.bits | gold.bits))
    is_same = found.canonical == gold.canonical
    return Result(float(is_same), f"{found.canonical} (Tanimoto {tanimoto:.3f})", found.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one element, bond, charge or stereo mark changed, or one branch left out, in random order."""
    tokens = _TOKEN.findall(program.strip())
    changed = []
    for n, token in enumerate(tokens):
        others = _SWAPS.get(token, ())
        if token[0] == "[":
            others = tuple(_altered_bracket(token))
        changed += ["".join([*tokens[:n], other, *tokens[n + 1 :]]) for other in others]
    changed += [program[: b.start()] + program[b.end() :] for b in _BRANCH.finditer(program)]
    changed = sorted(set(changed) - {program.strip()})
    rng.shuffle(changed)
    yield from changed


_TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|%\d\d|.", re.DOTALL)
_BRANCH = re.compile(r"\([=#]?(?:Br|Cl|[CNOSFI])\)")
_SWAPS = {
    "C": ("N",), "N": ("C",), "O": ("S",), "S": ("O",), "F": ("Cl",), "Cl": ("F", "Br"), "Br": ("Cl",), "I": ("F",), "P": ("N",),
    "c": ("n",), "n": ("c",), "o": ("s",), "s": ("o",), "=": ("", "#"), "#": ("=",), ".": ("",), "/": ("\\",), "\\": ("/",),
}  # fmt: skip


def _altered_bracket(token: str) -> Iterator[str]:
    if "@@" in token:
        yield token.replace("@@", "@")
    elif "@" in token:
        yield token.replace("@", "@@")
    charge = re.search(r"[+-]\d*", token)
    if charge:
        yield token.replace(charge[0], "")
        yield token.replace(charge[0], "+" if charge[0][0] == "-" else "-")


# --- reading ----------------------------------------------------------------------------------------------------------

_STRANGE = re.compile(r"[^A-Za-z0-9@+\-\[\]()=#$:.%*/\\~<>]")
_known: dict[str, Molecule] = {}


def _molecule(text: str, limits: Limits) -> Molecule:
    text = text.strip()
    known = _known.get(text)  # a single lookup, since another thread may clear the cache
    if known:
        return known
    if not text:
        raise Unparsable("no SMILES")
    strange = _STRANGE.search(text)
    if strange:
        raise Unparsable(f"character {strange.start() + 1}: expected one SMILES and nothing else, got {strange[0]!r}")
    if len(text) > MAX_CHARS:
        raise Unparsable(f"the SMILES has {len(text)} characters; at most {MAX_CHARS} are read")
    outcome = executor.run(f"{__name__}:describe", {"smiles": text}, limits, preload=(f"{__name__}:warm_up",))
    outcome.check_limits()
    if outcome.crashed:
        raise LimitExceeded(f"RDKit {outcome.detail}", outcome.isolation)
    if outcome.status != "ok":
        raise Unavailable(f"RDKit did not read the SMILES: {outcome.detail}")
    found = outcome.value
    if found["fault"]:
        raise Unparsable(found["fault"])
    if len(_known) >= MAX_KNOWN:
        _known.clear()
    _known[text] = molecule = Molecule(found["canonical"], frozenset(found["bits"]), outcome.isolation)
    return molecule


def warm_up() -> None:
    """Have RDKit set itself up, once for all children."""
    describe({"smiles": "C[C@H](N)C(=O)O"})


def describe(args: dict[str, str]) -> dict[str, Any]:
    """Return a SMILES' canonical form and fingerprint, or RDKit's error. Only ever called in a sandbox child."""
    rdBase.LogToPythonStderr()
    with contextlib.redirect_stderr(io.StringIO()) as log:
        molecule = Chem.MolFromSmiles(args["smiles"])
    if molecule is None:
        return {"fault": _complaint(log.getvalue())}
    if not molecule.GetNumAtoms():
        return {"fault": "a molecule without atoms"}
    text = _settled(Chem.MolToSmiles(molecule))
    fingerprint = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint(molecule)
    return {"fault": "", "canonical": text, "bits": list(fingerprint.GetOnBits())}


def _settled(text: str) -> str:
    """Return the SMILES that repeated reading and writing converges to or, if it cycles, the least in the cycle."""
    seen = [text]
    while len(seen) <= MAX_PASSES:
        molecule = Chem.MolFromSmiles(seen[-1])
        if molecule is None:  # RDKit cannot read its own output
            break
        again = Chem.MolToSmiles(molecule)
        if again in seen:
            return min(seen[seen.index(again) :])
        seen.append(again)
    return min(seen)


def _complaint(log: str) -> str:
    """Return the first line of RDKit's log without the time and the text, preceded by the position if it has one."""
    first = re.sub(r"^\[[\d:]*\] (?:SMILES Parse Error: )?", "", log.partition("\n")[0])
    first = re.sub(r" (?:while parsing|for input): .*", "", first) or "RDKit cannot read it"
    place = re.search(r"around position (\d+)", log)
    return f"character {place[1]}: {first}" if place else first


_ALANINE = "C[C@H](N)C(=O)O"


def _example(name: str, program: str, score: float | None, gold: str = _ALANINE) -> Example:
    problem = Problem.of(
        task="example", family="smiles", split="train", instruction="Write the molecule in SMILES.",
        question="The L-enantiomer of alanine." if gold == _ALANINE else "Sodium benzoate.", program=gold,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _ALANINE, 1.0),
    _example("different-looking equal", "OC(=O)[C@@H](N)C", 1.0),
    _example("hydrogens written out", "[CH3][C@]([H])([NH2])C(=O)[OH]", 1.0),
    _example("salt in another order and Kekulé form", "[O-]C(=O)C1=CC=CC=C1.[Na+]", 1.0, "[Na+].[O-]C(=O)c1ccccc1"),
    _example("the other enantiomer", "C[C@@H](N)C(=O)O", 0.0),
    _example("stereochemistry left out", "CC(N)C(=O)O", 0.0),
    _example("zwitterion", "C[C@H]([NH3+])C(=O)[O-]", 0.0),
    _example("an isomer of position", "NC[C@H](O)C=O", 0.0),
    _example("carbon with five bonds", "C[C@H](N)C(=O)(=O)O", None),
    _example("ring that is never closed", "C1[C@H](N)C(=O)O", None),
    _example("ill-formed", "C[C@H](N)C(=O", None),
)
