"""Molecules: reader, and parts and molecules of the generator against names worked out by hand."""

import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tasks import get
from tests.problems import EXTRA

pytest.importorskip("rdkit", reason=EXTRA)
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from symbol_llm.tasks import science

LEVELS = (1, 2, 3)
COENZYME_A = (
    "CC(C)(COP(=O)(O)OP(=O)(O)OC[C@@H]1[C@H]([C@H]([C@@H](O1)n2cnc3c(N)ncnc23)O)OP(=O)(O)O)[C@H](C(=O)NCCC(=O)NCCS)O"
)


def canonical(smiles):
    molecule = Chem.MolFromSmiles(smiles)
    assert molecule is not None, smiles
    return Chem.MolToSmiles(molecule)


def draws(level, n=150):
    return [science.generate(random.Random(f"m {i}"), level) for i in range(n)]


def test_reader_undoes_doubled_backslashes(data_set):
    row = {"id": "c-0", "CID": "7", "SMILES": "C/C=C\\\\C", "description": "The molecule is cis-but-2-ene. "}
    (problem,) = get("chebi20").read(data_set([row], []))
    assert (problem.program, problem.question) == ("C/C=C\\C", "The molecule is cis-but-2-ene.")
    assert (problem.source, problem.split, problem.answer) == ("chebi20 c-0", "train", None)


def test_row_without_a_molecule_names_file_line_and_field(data_set):
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: SMILES: field required"):
        list(get("chebi20").read(data_set([], [{"id": "c-0", "description": "It is air."}])))


@pytest.mark.parametrize(
    ("acid", "name", "smiles"),
    [
        (science.straight_acid(2), "acetic acid", "CC(=O)O"),
        (science.straight_acid(6), "hexanoic acid", "CCCCCC(=O)O"),
        (science.unsaturated_acid(5, {2: "E"}), "(2E)-pent-2-enoic acid", "CC/C=C/C(=O)O"),
        (science.unsaturated_acid(18, {9: "Z"}), "(9Z)-octadec-9-enoic acid", "OC(=O)CCCCCCC/C=C\\CCCCCCCC"),
        (
            science.unsaturated_acid(18, {9: "Z", 12: "Z"}),
            "(9Z,12Z)-octadeca-9,12-dienoic acid",
            "CCCCC/C=C\\C/C=C\\CCCCCCCC(O)=O",
        ),
        (science.substituted_acid(4, {3: "chloro", 2: "methyl"}), "3-chloro-2-methylbutanoic acid", "CC(Cl)C(C)C(=O)O"),
        (science.substituted_acid(3, {2: "hydroxy"}), "2-hydroxypropanoic acid", "CC(O)C(=O)O"),
        (science.benzoic_acid({4: "amino"}), "4-aminobenzoic acid", "Nc1ccc(cc1)C(=O)O"),
        (science.benzoic_acid({2: "bromo", 5: "bromo"}), "2,5-dibromobenzoic acid", "OC(=O)c1c(Br)ccc(Br)c1"),
        (science.benzoic_acid({6: "hydroxy"}), "6-hydroxybenzoic acid", "OC(=O)c1ccccc1O"),
    ],
)
def test_acid_written_either_way(acid, name, smiles):
    assert acid.name == name
    assert canonical(f"{acid.inwards}O") == canonical(f"O{acid.outwards}") == canonical(smiles)


@pytest.mark.parametrize(
    ("ring", "groups", "smiles"),
    [
        ("benzene", {1: "C", 2: "O", 4: "Cl"}, "Cc1ccc(Cl)cc1O"),
        ("pyridine", {3: "C(=O)O"}, "OC(=O)c1cccnc1"),
        ("pyridine", {2: "F", 6: "C"}, "Cc1cccc(F)n1"),
        ("pyrimidine", {5: "Br"}, "Brc1cncnc1"),
        ("thiophene", {2: "C", 5: "C"}, "Cc1ccc(C)s1"),
        ("naphthalene", {1: "O"}, "Oc1cccc2ccccc12"),
        ("naphthalene", {2: "O", 6: "O"}, "Oc1ccc2cc(O)ccc2c1"),
        ("quinoline", {8: "O"}, "Oc1cccc2cccnc12"),
        ("indole", {3: "CCN"}, "NCCc1c[nH]c2ccccc12"),
        ("indole", {5: "O"}, "Oc1ccc2[nH]ccc2c1"),
        ("piperidine", {4: "O"}, "OC1CCNCC1"),
        ("oxane", {2: "O"}, "OC1CCCCO1"),
    ],
)
def test_ring_has_groups_at_their_positions(ring, groups, smiles):
    assert canonical(science.ring(ring, groups)) == canonical(smiles)


def test_residues_have_the_configuration_of_their_names():
    """All amino acids of the L series are S but for cysteine, whose sulfur turns the order of priorities."""
    for name, text in science.RESIDUES.items():
        centres = dict(Chem.FindMolChiralCenters(Chem.MolFromSmiles(f"{text}O"), includeUnassigned=True))
        if name == "glycine":
            assert centres == {}
            continue
        alpha = "S" if name.startswith("L-") != (name[2:] == "cysteine") else "R"
        assert sorted(centres.values()) == {
            "L-threonine": ["R", "S"],
            "L-isoleucine": ["S", "S"],
        }.get(name, [alpha])


def test_coenzyme_a_is_coenzyme_a():
    assert canonical(science.COENZYME_A) == canonical(COENZYME_A)


@pytest.mark.parametrize("level", LEVELS)
def test_generated_molecules_are_ones_without_radicals(level):
    for problem in draws(level):
        molecule = Chem.MolFromSmiles(problem.program)
        assert molecule is not None, problem
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        salt = " salt " in problem.question or " equivalent of the acid" in problem.question
        assert len(Chem.GetMolFrags(molecule)) == 1 or salt, problem


@pytest.mark.parametrize("level", [2, 3])
def test_double_bonds_of_an_acid_are_as_its_name_says(level):
    n_seen = 0
    for problem in draws(level, 400):
        named = sorted(
            way
            for stereo in re.findall(r"\(((?:\d+[EZ],?)+)\)-", problem.question.split(". ")[0])
            for way in stereo
            if way in "EZ"
        )
        molecule = Chem.MolFromSmiles(problem.program)
        kinds = {Chem.BondStereo.STEREOE: "E", Chem.BondStereo.STEREOZ: "Z"}
        found = sorted(kinds[bond.GetStereo()] for bond in molecule.GetBonds() if bond.GetStereo() in kinds)
        assert found == named, problem
        n_seen += bool(named)
    assert n_seen >= 20


@pytest.mark.parametrize("level", [2, 3])
def test_peptide_has_the_atoms_of_its_residues_without_water(level):
    n_seen = 0
    for problem in draws(level, 200):
        if "peptide" not in problem.question or "termin" in problem.question.replace("named from the N-terminus", ""):
            continue
        names = re.findall(
            r"(?:[LD]-(?:2-aminobutanoic acid|aspartic acid|glutamic acid|\w+)|glycine)", problem.question
        )
        alone = [Chem.AddHs(Chem.MolFromSmiles(f"{science.RESIDUES[name]}O")) for name in names]
        whole = Chem.AddHs(Chem.MolFromSmiles(problem.program))
        assert whole.GetNumAtoms() == sum(part.GetNumAtoms() for part in alone) - 3 * (len(names) - 1), problem
        n_seen += 1
    assert n_seen >= 10


@pytest.mark.parametrize(
    ("words", "formula"),
    [("straight-chain saturated fatty acid with 9 carbons", "C9H18O2"), ("alcohol that is hexan-2-ol", "C6H14O")],
)
def test_known_formulas(words, formula):
    found = [p for p in draws(1, 3000) if words in p.question]
    assert found
    assert {CalcMolFormula(Chem.MolFromSmiles(p.program)) for p in found} == {formula}
