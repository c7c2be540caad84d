"""What should make a person look at a run before going on: signs of a round that teaches something else than it should.

Nothing here stops a run. What does: too many `unscored` verdicts, a loss that is not finite, a round without a right program,
and, with `rounds.stop_early`, dev accuracy that does not rise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from symbol_llm.ground.records import STATUSES, Summary

FEW_DISTINCT = 1.15
"""Distinct right programs a solved problem under which sampling again finds little that is new."""
OFTEN = 2.0
"""Right samples a solved problem from which on they could have differed."""
MANY_STOPPED = 0.2
"""Share of programs that were ended by a limit."""
FEW_MENDED = 0.02
"""Share of wrong programs whose repair is right."""


def alarms(curve: Sequence[Summary]) -> list[str]:
    """Return what is to be said of the last point of `curve`, a sentence each; nothing of a point that ends no round."""
    now = curve[-1]
    if not now.round:
        return []
    before = curve[-2] if len(curve) > 1 else None
    return [*_taught_wrong(now, before), *_alike(now), *_stopped(now), *_mended(now), *_new(now)]


def _taught_wrong(now: Summary, before: Summary | None) -> Iterator[str]:
    if before is None or not before.round or now.dev is None or before.dev is None:
        return
    accepted = before.round["pass_1"], now.round["pass_1"]
    if accepted[1] > accepted[0] and now.dev.mean < before.dev.low:
        yield (
            f"{now.stage}: more programs were accepted on training problems ({_percent(accepted[0])}, then {_percent(accepted[1])}) "
            f"while dev accuracy fell ({_percent(before.dev.mean)}, then {_percent(now.dev.mean)}): look at what is accepted "
            "(`symbol-llm explorer`), it may be right by chance (`explore.redraws`)"
        )


def _alike(now: Summary) -> Iterator[str]:
    solved, accepted = now.round["n_solved"], now.round["n_accepted"]
    distinct = now.round.get("distinct_per_solved")
    if distinct is not None and solved and accepted / solved >= OFTEN and distinct < FEW_DISTINCT:
        yield (
            f"{now.stage}: a solved problem has {distinct:.2f} distinct right programs for {accepted / solved:.1f} right samples: "
            "raise `explore.temperature`, or spend samples elsewhere (`explore.budget=worth`)"
        )


def _stopped(now: Summary) -> Iterator[str]:
    n = sum(now.round.get(f"n_{status}", 0.0) for status in STATUSES)
    ended = now.round.get("n_timeout", 0.0) + now.round.get("n_resource", 0.0)
    if n and ended / n > MANY_STOPPED:
        yield f"{now.stage}: {_percent(ended / n)} of the programs were ended by a limit: see `explore.limits`, or what they do"


def _mended(now: Summary) -> Iterator[str]:
    tried = now.round.get("n_to_repair", 0.0)
    if tried >= 100 and now.round["n_repaired"] / tried < FEW_MENDED:
        yield (
            f"{now.stage}: {now.round['n_repaired']:.0f} of {tried:.0f} wrong programs were mended: "
            "`explore.refine=false` and a larger `explore.k` spend those samples better"
        )


def _new(now: Summary) -> Iterator[str]:
    if not now.round["n_newly_solved"]:
        yield f"{now.stage}: no training problem was solved for the first time: the rounds have found what they can find"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
