"""Names for variables that neither their old names nor any order touches."""

import random
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.notation.refinement import least_text, number
from tests.cpu import at_most

EDGES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 5)), min_size=1, max_size=9)


def numbered(edges: Sequence[tuple[str, str, str]]) -> list[tuple[int, str, int]]:
    variables = sorted({v for one, _, other in edges for v in (one, other)})
    around = {v: [(e, False, o) for s, e, o in edges if s == v] for v in variables}
    for v in variables:
        around[v] += [(e, True, s) for s, e, o in edges if o == v]
    numbers = number(dict.fromkeys(variables, 0), around, key=str)
    assert sorted(numbers.values()) == list(range(len(variables)))
    return sorted((numbers[s], e, numbers[o]) for s, e, o in edges)


def printed(edges: Sequence[tuple[str, str, str]], max_shown: int = 100_000) -> str | None:
    variables = list(dict.fromkeys(v for one, _, other in edges for v in (one, other)))

    def show(naming: Mapping[str, str]) -> str:
        return " ".join(sorted(f"{naming[s]}-{e}-{naming[o]}" for s, e, o in edges))

    def name(order: Sequence[str]) -> Mapping[str, str]:
        return {v: f"v{n}" for n, v in enumerate(order)}

    return least_text(variables, show, name, max_shown=max_shown)


def renamed(edges: Sequence[tuple[int, str, int]], seed: int) -> list[tuple[str, str, str]]:
    names = random.Random(seed).sample("pqrstuvw", 6)
    found = [(names[s], e, names[o]) for s, e, o in edges]
    random.Random(seed + 1).shuffle(found)
    return found


@given(EDGES)
def test_names_and_order_do_not_count(edges: list[tuple[int, str, int]]) -> None:
    assert len({printed(renamed(edges, seed)) for seed in range(4)}) == 1


def test_what_refinement_alone_can_not_tell_apart_is_tried_out() -> None:
    """Six in a ring and two rings of three look alike from every place."""
    ring = [(n, "a", (n + 1) % 6) for n in range(6)]
    two = [(n, "a", n // 3 * 3 + (n + 1) % 3) for n in range(6)]
    assert (
        printed(renamed(ring, 1)) == printed(renamed(ring, 2)) != printed(renamed(two, 1)) == printed(renamed(two, 2))
    )
    assert numbered(renamed(ring, 1)) == numbered(renamed(ring, 2)) != numbered(renamed(two, 1))


@pytest.mark.parametrize(("max_shown", "is_found"), [(1, False), (10_000, True)])
def test_too_many_texts_are_no_text(max_shown: int, is_found: bool) -> None:
    clique = [(one, "a", other) for one in range(5) for other in range(5) if one != other]
    assert (printed(renamed(clique, 0), max_shown) is not None) == is_found


def test_variables_that_nothing_tells_apart_are_numbered_in_no_time() -> None:
    names = [str(n) for n in range(1000)]
    with at_most(2):
        assert number(dict.fromkeys(names, 0), {name: [] for name in names}, key=int)["999"] == 999


def test_long_texts_of_many_variables_are_not_all_kept() -> None:
    names = [f"v{n}" for n in range(900)]
    text = "long " * 10_000

    def show(naming: Mapping[str, str]) -> str:
        return text + " ".join(naming[name] for name in names[:2])

    tracemalloc.start()
    least_text(names, show, lambda order: dict(zip(order, order, strict=True)), max_shown=950)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_a_long_text_is_named_as_a_short_one_is_whatever_its_variables_were_called() -> None:
    edges = [(0, "a" * 3000, 1), (1, "b", 2), (2, "a", 0), (2, "b" * 3000, 3)]
    assert len({printed(renamed(edges, seed)) for seed in range(9)}) == 1
