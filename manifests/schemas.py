"""What an API server says of the fields of a resource: its schema, no unknown field, and the rules of a custom resource.

Core kinds are checked by kubernetes-validate; custom resources by their CRDs, with the rules in CEL that these have. A rule on
what may change (`oldSelf`) is left out, since there is nothing before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cel
import jsonschema
import kubernetes_validate
import yaml

from manifests.resources import Fault, Resource, name_of

KUBERNETES = "1.33"


class Schema(NamedTuple):
    """Of one kind of custom resource, in one version."""

    fields: jsonschema.Draft7Validator
    openapi: Mapping[str, Any]


Schemas = Mapping[tuple[str, str], Schema]
"""By apiVersion and kind."""


def faults(resource: Resource, schemas: Schemas | None = None) -> Iterator[Fault]:
    """Yield unknown or ill-typed fields and broken rules of one resource; of a custom resource none without `schemas`."""
    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as e:
        yield Fault(name_of(resource), f"{'.'.join(map(str, e.path)) or 'resource'}: {e.message[:200]}")
    except kubernetes_validate.SchemaNotFoundError:
        if schemas is None:
            return
        schema = schemas.get((resource["apiVersion"], resource["kind"]))
        if schema is None:
            yield Fault(name_of(resource), f"no schema for {resource['apiVersion']} {resource['kind']}")
            return
        for error in schema.fields.iter_errors(resource):
            yield Fault(name_of(resource), f"{'.'.join(map(str, error.path)) or 'resource'}: {error.message[:200]}")
        for path, message in broken(schema.openapi, resource):
            yield Fault(name_of(resource), f"{path or 'resource'}: {message}")


def broken(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield where in `value`, and in which words, a rule of `schema` is broken."""
    for one in schema.get("x-kubernetes-validations", ()):
        rule = one["rule"]
        if "oldSelf" not in rule and cel.evaluate(rule, {"self": value}) is not True:
            yield path, one.get("message", rule)
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        for key, inner in value.items():
            below = schema.get("properties", {}).get(key, others)
            if isinstance(below, dict):
                yield from broken(below, inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from broken(schema.get("items", {}), inner, f"{path}.{number}")


def load_schemas(crds: Path) -> Schemas:
    """Return the schema of each (apiVersion, kind) that the CRDs in `crds` serve."""
    schemas = {}
    for file in sorted(crds.rglob("*.yaml")):
        for crd in yaml.load_all(file.read_text(), _CrdLoader):  # noqa: S506
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                openapi = version["schema"]["openAPIV3Schema"]
                fields = strict(openapi)
                fields.setdefault("properties", {}).update(apiVersion={}, kind={}, metadata={"type": "object"})
                kind = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                schemas[kind] = Schema(jsonschema.Draft7Validator(fields), openapi)
    return schemas


class _CrdLoader(yaml.CSafeLoader):
    """Reads a bare `=`, which some CRDs have in an enum, as text."""


_CrdLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def strict(schema: Any) -> Any:
    """Return an openAPIV3Schema as a JSON schema that refuses unknown fields, as a strict API server does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {
        key: {name: strict(field) for name, field in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in ("default", "description", "x-kubernetes-validations")
    }
    if out.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
    if "properties" in out and not out.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out
