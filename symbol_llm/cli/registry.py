"""Commands about the versions in the model registry."""

from __future__ import annotations

from pathlib import Path

import click

from symbol_llm.cli.group import Existing, Folder, main, parameters, show


@main.command()
@click.option("--to", metavar="VERSION", help="A version that was champion once. Default: the previous champion.")
@click.pass_context
def rollback(ctx: click.Context, to: str | None) -> None:
    """Make the previous champion the champion again."""
    from symbol_llm.tracking import registry

    show(ctx, registry.rollback(parameters(ctx).promote.name, to)._asdict())


@main.command()
@click.pass_context
def history(ctx: click.Context) -> None:
    """List promotions, refusals and rollbacks, oldest first.

    Those of all models in the registry. What a killed promotion or rollback left half done is finished.
    """
    from symbol_llm.tracking import registry

    show(ctx, registry.history())


@main.command()
@click.argument("version")
@click.argument("key", type=Existing)
@click.pass_context
def sign(ctx: click.Context, version: str, key: Path) -> None:
    """Sign a registered version with the private KEY.

    VERSION is a number or an alias such as `champion`, KEY a PEM file. For versions that were promoted without a key, and when the key changes: a version has one signature.
    """
    from symbol_llm.tracking import registry, signing

    name = parameters(ctx).promote.name
    found = registry.by_either(name, version)
    registry.keep_signature(name, found.number, signing.signer(key)(registry.fetch(found.source, found.digest)))
    show(ctx, {"signed": f"version {found.number}", "sha256": found.digest})


@main.command()
@click.argument("version")
@click.argument("out", type=Folder)
@click.option(
    "--verify-key", type=Existing, help="Refuse a version that is not signed by the owner of this public key."
)
@click.pass_context
def export(ctx: click.Context, version: str, out: Path, verify_key: Path | None) -> None:
    """Write a registered version and its model card to OUT.

    VERSION is a number or an alias such as `champion`. transformers, `vllm serve` and other programs that read the hub's format load the folder as it is.
    """
    from symbol_llm.tracking.export import export as write_out

    show(ctx, write_out(parameters(ctx).promote.name, version, out, verify_key))
