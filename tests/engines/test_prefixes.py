"""Grouping prompts by what they share: no row is lost, nothing is shared that is not the same."""

from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.engines.prefixes import SHORTEST, Group, batches

token = st.integers(0, 2)
shared = st.lists(token, min_size=SHORTEST, max_size=2 * SHORTEST)
rows = st.builds(
    lambda head, tails: [head + t for t in tails], shared, st.lists(st.lists(token, min_size=1, max_size=9))
)


@given(st.lists(rows, max_size=4), st.integers(1, 7), st.integers(1, 300))
def test_each_row_is_in_one_group_and_a_group_shares_its_head(
    families: list[list[list[int]]], size: int, held: int
) -> None:
    ids = [row for family in families for row in family]
    most = [len(row) - 1 for row in ids]
    found = list(batches(ids, most, size, held=held, more=5))
    assert sorted(i for batch in found for g in batch for i in g.rows) == list(range(len(ids)))
    for batch in found:
        n_rows = sum(len(g.rows) for g in batch)
        width = max(g.head for g in batch) + max(len(ids[i]) - g.head for g in batch for i in g.rows)
        assert n_rows == 1 or (n_rows <= size and n_rows * (width + 5) <= held)
        for g in batch:
            assert len({tuple(ids[i][: g.head]) for i in g.rows}) == 1
            assert all(g.head <= most[i] for i in g.rows)


def test_replies_to_one_prompt_share_it_and_other_prompts_are_apart() -> None:
    first, second = list(range(100, 140)), list(range(200, 240))
    ids = [[*first, 1], [*second, 1], [*first, 2], [*second, 2, 3], [*first, 3]]
    assert list(batches(ids, [40] * 5, 8)) == [[Group(40, [0, 2, 4]), Group(40, [1, 3])]]


def test_common_instruction_does_not_part_a_problem_from_its_repairs() -> None:
    """Rows of one problem share far more than the instruction all rows begin with."""
    instruction = list(range(SHORTEST))
    problems = [[*instruction, *range(100 * n, 100 * n + 50)] for n in (1, 2)]
    ids = [[*p, n] for p in problems for n in (7, 8, 9)]
    (batch,) = batches(ids, [len(row) - 1 for row in ids], 8)
    assert batch == [Group(66, [0, 1, 2]), Group(66, [3, 4, 5])]
