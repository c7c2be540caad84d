"""Molecules: what RDKit finds equal, and what it complains of."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.problems import EXTRA

pytest.importorskip("rdkit", reason=EXTRA)

from symbol_llm.families.smiles import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from tests.problems import problem as make

LIMITS = Limits(timeout_s=20)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("OCC", "CCO"),
        (" CCO\n", "C(O)C"),
        ("c1ccccc1O", "OC1=CC=CC=C1"),
        ("[Na+].[Cl-]", "[Cl-].[Na+]"),
        ("[CH3][CH2][OH]", "CCO"),
        ("F/C=C/F", "F\\C=C\\F"),
        ("F/C=C\\\\F", "F/C=C\\F"),
        ("N[C@@H](C)O", "O[C@H](C)N"),
        ("C1CC1C2CC2", "C%12CC%12C1CC1"),
        ("C[N+](=O)[O-]", "C[N+]([O-])=O"),
        ("CN(=O)=O", "C[N+](=O)[O-]"),
    ],
)
def test_ways_to_write_one_molecule(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, make("smiles", program=two), LIMITS).score == 1.0
    assert score(one, make("smiles", answer=two), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("CCO", "COC"),
        ("N[C@@H](C)O", "N[C@H](C)O"),
        ("N[C@@H](C)O", "NC(C)O"),
        ("F/C=C/F", "F/C=C\\F"),
        ("F/C=C/F", "FC=CF"),
        ("CC(=O)O", "CC(=O)[O-]"),
        ("CC=O", "C=CO"),
        ("[13CH4]", "C"),
        ("CCO.O", "CCO"),
        ("[CH3]", "C"),
        ("[Fe+2]", "[Fe+3]"),
    ],
)
def test_molecules_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)
    assert score(one, make("smiles", program=two), LIMITS).score == 0.0


@pytest.mark.parametrize(
    "reply",
    [
        "SMILES: CCO", "The SMILES is CCO", "The SMILES string is: CCO", "CCO.", '"CCO"', "**CCO**", "'CCO'.", "<SMILES> CCO </SMILES>",
        "CCO\n\nThis is ethanol.", "`CCO`", "Smiles notation: CCO",
    ],
)  # fmt: skip
def test_the_smiles_of_a_reply_is_found(reply: str) -> None:
    assert program_of(reply) == "CCO"


@pytest.mark.parametrize("reply", ["*CC*", "S", "[Na+].[Cl-]", "smile", "CCO CCO", "'CC'O'C'"])
def test_a_reply_is_otherwise_left_as_it_is(reply: str) -> None:
    assert program_of(reply) == reply


def test_the_value_tells_how_similar_a_wrong_molecule_is() -> None:
    assert score("OCC", make("smiles", program="CCO"), LIMITS).value == "CCO (Tanimoto 1.000)"
    near, far = (score(wrong, make("smiles", program="CCCCCO"), LIMITS).value for wrong in ("CCCCCCO", "c1ccncc1"))
    assert near == "CCCCCCO (Tanimoto 0.923)"  # 12 of 13 bits
    assert far == "c1ccncc1 (Tanimoto 0.000)"


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("", "no SMILES"),
        ("CCO ethanol", "character 4: expected one SMILES and nothing else, got ' '"),
        ("CCO|$a$|", r"character 4: expected one SMILES and nothing else, got '\|'"),
        ("CC(C", "character 3: extra open parentheses"),
        ("CC)C", "character 3: extra close parentheses"),
        ("C%%%", "character 3: syntax error"),
        ("[Zz]", "character 2: syntax error"),
        ("CC>>CC", "character 3: syntax error"),
        ("C1CC", "unclosed ring"),
        ("CN(C)(C)C", "Explicit valence for atom # 1 N, 4, is greater than permitted"),
        ("c1cccc1", "Can't kekulize mol.  Unkekulized atoms: 0 1 2 3 4"),
        ("C" * 4001, "at most 4000 are read"),
    ],
)
def test_what_is_no_molecule_is_refused_with_what_rdkit_says(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        run(program, make("smiles"), LIMITS)


def test_it_runs_in_the_smallest_sandbox_there_is() -> None:
    assert run("CCCO", make("smiles"), Limits(timeout_s=20, memory_mib=64)).value == "CCCO"


def test_gold_that_is_wrong_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="has no gold SMILES"):
        score("CCO", make("smiles", answer=3), LIMITS)
    with pytest.raises(InvalidInput, match="gold: unclosed ring") as caught:
        score("CCO", make("smiles", program="C1C"), LIMITS)
    assert not isinstance(caught.value, Unparsable)


CHAINS = st.recursive(
    st.sampled_from(["C", "N", "O", "CC", "C=C", "C#C", "S", "c1ccccc1", "C(=O)[O-]"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"C({p[0]}){p[1]}"),
        inner.map(lambda part: f"C{part}"),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(CHAINS.map("CC{}".format), st.integers())
def test_canonical_is_idempotent_and_no_mutant_is_the_same_molecule(program: str, seed: int) -> None:
    form = canonical(program)
    assert canonical(form) == form
    for mutant in list(mutants(program, random.Random(seed)))[:2]:
        try:
            assert canonical(mutant) != form
        except Unparsable as e:
            assert str(e)


def test_a_cage_whose_smiles_flips_has_one_canonical_form() -> None:
    one, other = "C1C2C3[C@H]2[C@H]13", "C1C2C3[C@H]1[C@H]23"  # RDKit writes either for the other
    assert canonical(one) == canonical(other) == min(one, other)
    assert canonical("[CH]1C2C3[C@H]2[C@H]13") == canonical("[CH]1C2C3[C@H]1[C@H]23")
