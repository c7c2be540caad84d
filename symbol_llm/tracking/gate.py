"""The gate: whether a checkpoint may become champion, rule by rule, with the numbers. It reads reports and moves nothing.

A checkpoint passes if

- its programs ran in a whole sandbox, and few verdicts are missing (`unscored`);
- its test accuracy is above its rival's by more than chance, by a paired bootstrap over the problems both were asked;
- no domain has fallen by more than a margin and more than chance;
- its general ability is within the margins of the original model's;
- what `promote.required` names is known of it.

Test problems that are looked at again and again find a winner by luck. So the gate spends its error: of the 1 - confidence that
is allowed in all, the n-th candidate that is put to the same test problems gets the share 1 / (n (n + 1)), and 1/2 + 1/6 +
1/12 + ... is 1. However many come, one that is no better is promoted with a probability of at most (1 - confidence) / 2, as far
as the bootstrap holds. Fresh test problems begin a new count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import Interval, Report, Scores
from symbol_llm.tracking.lineage import Facts


class Rule(TypedDict):
    """What one rule found. A dict, since it goes into `promotion.json` as it is."""

    rule: str
    passed: bool
    value: float | None
    """What was found: a share, a difference of shares, a ratio; None where there is nothing to measure."""
    bound: float | None
    """What `value` was held against."""
    words: str


class Decision(NamedTuple):
    """What the gate said."""

    promoted: bool
    reason: str
    difference: Interval | None
    """Test accuracy over the rival's, paired, with the interval at the confidence that was left for this candidate."""
    rules: tuple[Rule, ...] = ()
    """All of them, passed or not, in order."""


def gate(
    report: Report, rival: Report, original: Report, params: Promote, n_tested: int = 1, facts: Facts | None = None
) -> Decision:
    """Return whether `report` beats `rival` and keeps the general ability of `original`, and why.

    `n_tested` candidates were put to these test problems, this one included. `facts` is what is known of the checkpoint.
    """
    difference, gain = _gain(report, rival, spent(params.confidence, n_tested), n_tested)
    rules = (
        _isolation(report, params),
        _unscored(report, params),
        gain,
        *_domains(report, rival, params),
        *_general(report, rival, original, params),
        _known(facts or Facts(), params),
    )
    failed = [rule for rule in rules if not rule["passed"]]
    if failed:
        more = f" (and {len(failed) - 1} more: {', '.join(r['rule'] for r in failed[1:])})" if failed[1:] else ""
        return Decision(False, failed[0]["words"] + more, difference, rules)
    return Decision(True, gain["words"], difference, rules)


def spent(confidence: float, n: int) -> float:
    """Return the confidence that the `n`-th candidate (from 1) is held to, so that all together keep `confidence`.

    >>> spent(0.9, 1), spent(0.9, 4)
    (0.95, 0.995)
    """
    return 1 - (1 - confidence) / (n * (n + 1))


def resampled(gains: Sequence[float], confidence: float) -> Interval:
    """Return the mean of `gains`, each -1, 0 or 1, with its percentile bootstrap interval, exact rather than drawn.

    The sum of n draws with replacement has the n-fold convolution of the three shares as its distribution. The bounds are
    the outermost means beyond which no more than (1 - confidence) / 2 lies; far tails need no more resamples than near ones.
    InvalidInput for another gain.
    """
    import numpy as np

    n, tail = len(gains), (1 - confidence) / 2
    if odd := [gain for gain in gains if gain not in (-1, 0, 1)]:
        raise InvalidInput(f"a test outcome differs by {odd[0]!r}; expected outcomes of 0 or 1")
    step = np.array([gains.count(value) / n for value in (-1, 0, 1)])
    whole, power, left = np.ones(1), step, n
    while left:
        whole = np.convolve(whole, power) if left % 2 else whole
        left //= 2
        power = np.convolve(power, power) if left else power
    low = int(np.searchsorted(np.cumsum(whole), tail, side="right"))
    high = int(np.searchsorted(np.cumsum(whole[::-1]), tail, side="right"))
    return Interval(n=n, mean=sum(gains) / n, low=(low - n) / n, high=(n - high) / n)


def _gain(report: Report, rival: Report, confidence: float, n_tested: int) -> tuple[Interval | None, Rule]:
    shared = sorted(set(report.outcomes) & set(rival.outcomes))
    if not report.outcomes:
        return None, _rule("gain", False, None, 0.0, "no test problem has a verdict")
    if len(shared) < len(report.outcomes) / 2:
        words = f"only {len(shared)} of {len(report.outcomes)} test problems were also put to {rival.summary.stage!r}"
        return None, _rule("gain", False, None, 0.0, words)
    difference = resampled([report.outcomes[p] - rival.outcomes[p] for p in shared], confidence)
    found = f"{difference.mean:+.1%} [{difference.low:+.1%}, {difference.high:+.1%}] on {len(shared)} test problems"
    if n_tested > 1:
        found += f", at {confidence:.3%} confidence as candidate {n_tested} on them"
    passed = difference.low > 0
    verdict = "better" if passed else "not proved better"
    return difference, _rule(
        "gain", passed, difference.low, 0.0, f"{verdict} than the {rival.summary.stage!r} checkpoint: {found}"
    )


def _isolation(report: Report, params: Promote) -> Rule:
    weak = [level for level in report.summary.isolation if not ("landlock" in level and "seccomp" in level)]
    words = f"programs ran under {', '.join(weak or report.summary.isolation) or 'nothing, since none had to run'}"
    if weak:
        words += " alone; promote.weak_isolation=true lets such verdicts count"
    return _rule("isolation", params.weak_isolation or not weak, float(len(weak)), 0.0, words)


def _unscored(report: Report, params: Promote) -> Rule:
    tasks = report.summary.tasks.values()
    n_unscored = sum(scores.unscored for scores in tasks)
    share = n_unscored / max(1, sum(scores.accuracy.n + scores.unscored for scores in tasks))
    words = f"{share:.1%} of the test problems have no verdict, allowed {params.max_unscored:.1%}"
    return _rule("unscored", share <= params.max_unscored, share, params.max_unscored, words)


def _domains(report: Report, rival: Report, params: Promote) -> list[Rule]:
    """Return a rule a domain that both were asked about.

    Reports hold no domain a problem, so the shares are compared as independent ones, whose interval is wider than a paired
    one would be: a fall is missed rather than made up.
    """
    rules = []
    for name in sorted(set(report.summary.domains) & set(rival.summary.domains)):
        fall = _difference(report.summary.domains[name], rival.summary.domains[name])
        passed = not (fall.mean < -params.domain_margin and fall.high < 0)
        words = f"{name}: {fall.mean:+.1%} [{fall.low:+.1%}, {fall.high:+.1%}], allowed -{params.domain_margin:.0%}"
        rules.append(_rule(f"domain {name}", passed, fall.mean, -params.domain_margin, words))
    return rules


def _difference(now: Scores, then: Scores) -> Interval:
    """Return the difference of two accuracies with Newcombe's interval (1998, method 10), from Wilson's of each."""
    a, b = now.accuracy, then.accuracy
    mean = a.mean - b.mean
    low = mean - math.hypot(a.mean - a.low, b.high - b.mean)
    high = mean + math.hypot(a.high - a.mean, b.mean - b.low)
    return Interval(n=a.n, mean=mean, low=low, high=high)


def _general(report: Report, rival: Report, original: Report, params: Promote) -> list[Rule]:
    """Return whether general ability is kept. What is not known to be kept is lost."""
    now, then = report.summary.general, original.summary.general
    for name in ("choice", "perplexity"):
        if getattr(now, name) is None and any(getattr(r.summary.general, name) is not None for r in (rival, original)):
            words = "general ability was not measured, though that of the model it is compared with was"
            return [_rule("general", False, None, None, words)]
    if not all(map(math.isfinite, (now.choice.mean if now.choice else 0.0, now.perplexity or 0.0))):
        return [_rule("general", False, None, None, "general ability has a figure that is not finite")]
    rules = []
    if now.choice and then.choice:
        moved, allowed = now.choice.mean - then.choice.mean, params.general_margin
        words = f"multiple choice {_went(moved)} from {then.choice.mean:.1%} to {now.choice.mean:.1%}, allowed {allowed:.0%}"
        passed = now.choice.mean >= then.choice.mean - allowed
        rules.append(_rule("multiple choice", passed, moved, -allowed, words))
    if now.perplexity and then.perplexity:
        grown, allowed = now.perplexity / then.perplexity - 1, params.perplexity_margin
        words = f"perplexity {_went(grown)} from {then.perplexity:.1f} to {now.perplexity:.1f}, allowed {allowed:.0%}"
        passed = now.perplexity <= then.perplexity * (1 + allowed)
        rules.append(_rule("perplexity", passed, grown, allowed, words))
    return rules


def _went(change: float) -> str:
    return "fell" if change < 0 else "rose"


def _known(facts: Facts, params: Promote) -> Rule:
    found = {name: value for name, value in facts._asdict().items() if value}
    missing = [name for name in params.required if name not in found]
    words = ", ".join(f"{name} {value}" for name, value in found.items()) or "nothing is known of how it was made"
    if missing:
        words = f"not known of the checkpoint: {', '.join(missing)}; promote.required names what must be"
    return _rule("known", not missing, float(len(found)), float(len(params.required)), words)


def _rule(rule: str, passed: bool, value: float | None, bound: float | None, words: str) -> Rule:
    return Rule(rule=rule, passed=passed, value=value, bound=bound, words=words)
