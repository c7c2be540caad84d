"""Metrics that papers report, besides what the verifier proves: EM, BLEU, F1, Smatch, LE. Scores texts; runs nothing.

- EM: program and gold are equal up to white space (as Symbol-LLM counts).
- BLEU: sentence BLEU of sacreBLEU with its 13a tokens and effective order, divided by 100; the mean over rows.
- F1, Smatch, LE: as measured by the family (`Verdict.measure`).
"""

from __future__ import annotations

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem, Verdict

MEASURED = ("F1", "Smatch", "LE")


def paper(metric: str, problem: Problem, verdict: Verdict) -> float | None:
    """Return the figure of one row in [0, 1]; 0.0 if there was no program to measure, None if the failure is ours."""
    if verdict.status == "unscored":
        return None
    if verdict.program is None or not problem.program:
        return 0.0
    match metric:
        case "EM":
            return float(" ".join(verdict.program.split()) == " ".join(problem.program.split()))
        case "BLEU":
            from sacrebleu import sentence_bleu

            return float(sentence_bleu(verdict.program, [problem.program], use_effective_order=True).score) / 100
        case _ if metric in MEASURED:
            return verdict.measure or 0.0
    raise InvalidInput(f"metric {metric!r}; have EM, BLEU, {', '.join(MEASURED)}")
