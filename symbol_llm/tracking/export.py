"""A registered version as a folder that other programs load: transformers, vLLM, KServe's Hugging Face runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tracking import card, lineage, registry, runs, signing

CARD = "README.md"


def export(name: str, version: str, out: Path, key: Path | None = None) -> dict[str, float]:
    """Write the checkpoint of `version` (a number, or an alias) of the model `name` to the folder `out`, with its model card.

    Its signature, where it has one, goes along as `model.sig`. InvalidInput if there is no such version, if its checkpoint is
    gone or no longer the one that was registered, or if what was written is not signed by the owner of the public `key`.
    """
    found = registry.by_either(name, version)
    folder = registry.fetch(found.source, found.digest)
    if not folder.is_dir():
        raise InvalidInput(f"{found.source}: the checkpoint of version {found.number} of {name!r} is gone")
    if (digest := files.hash_path(folder)) != found.digest:
        raise InvalidInput(f"{folder}: has the digest {digest}, version {found.number} {found.digest}; it was altered")
    about = card.About(
        name=name,
        version=found.number,
        digest=found.digest,
        base=lineage.base_model(found.digest),
        gate=runs.client().get_model_version(name, found.number).tags.get("gate", ""),
        facts=lineage.facts(found.digest),
        data_card=lineage.data_card(found.digest),
    )
    with outputs.building(out, "export", {"model": name, "version": found.number}, {"checkpoint": folder}) as draft:
        for file in sorted(p for p in folder.iterdir() if p.is_file() and p.name != files.MANIFEST):
            if not file.name.startswith("."):
                shutil.copyfile(file, draft.folder / file.name)
        files.write_text(draft.folder / CARD, card.render(registry.report(found), about))
        if about.data_card:
            files.write_text(draft.folder / card.DATA_CARD, about.data_card)
        signature = registry.signature(name, found.number)
        if key:
            signing.verify(draft.folder, signature, key)
        if signature:
            files.write_text(draft.folder / signing.SIGNATURE, signature)
        n_bytes = sum(p.stat().st_size for p in draft.folder.iterdir())
        draft.metrics = {"version": float(found.number), "size_mib": n_bytes / 2**20}
    return draft.metrics
