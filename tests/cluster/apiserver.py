"""A small, strict Kubernetes API server: real HTTP, kept in memory, for client code to be tried against.

It stores namespaced and cluster-wide objects of core kinds and of the CRDs it is given, and is strict where the real one
is: schemas, unknown fields (refused with `fieldValidation=Strict`, else dropped), defaults, immutable fields, generation,
resourceVersion and 409, roles and 401 / 403, SelfSubjectAccessReview, `dryRun=All`, Pod Security `restricted` and
ResourceQuota at the creation of a pod, watches with bookmarks and 410, logs that can be followed. Nothing runs here: a test
plays the controllers through `Cluster`, whose `hooks` are told of each change.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import functools
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml
from kubernetes.utils.quantity import parse_quantity
from kubernetes_validate import utils as core_schemas
from referencing import Registry, Resource

Object = dict[str, Any]
KUBERNETES = "1.33"
BOOKMARK_S = 0.2
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
CORE = {
    ("", "v1"): {
        "Namespace": "namespaces",
        "Node": "nodes",
        "Pod": "pods",
        "ConfigMap": "configmaps",
        "Secret": "secrets",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "ResourceQuota": "resourcequotas",
        "ServiceAccount": "serviceaccounts",
    },
    ("storage.k8s.io", "v1"): {"StorageClass": "storageclasses"},
}
CLUSTER_WIDE = {"namespaces", "nodes", "storageclasses", "clustertrainingruntimes", "clusterqueues", "resourceflavors"}
MUST_SPECIFY = {f"{side}.{kind}" for side in ("requests", "limits") for kind in ("cpu", "memory")}
"""What each pod says where a quota counts it; of other resources it may say nothing."""
EVERYTHING = ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},)


class Kind(NamedTuple):
    """A resource that is served; `schema` is a CRD's, or None of a core kind."""

    group: str
    version: str
    kind: str
    plural: str
    schema: Object | None
    has_status: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class User(NamedTuple):
    """Who holds a token, and the rules of the roles bound to it."""

    name: str
    rules: tuple[Mapping[str, Any], ...]


Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""


class Cluster:
    """What the server stores; tests read and change it directly, as controllers do, past all roles."""

    def __init__(self, crds: Path | None = None, *only: str) -> None:
        """Serve the core kinds, and the CRDs in the folder `crds` whose files' names contain one of `only`."""
        self.kinds = [
            Kind(g, v, kind, plural, None, True) for (g, v), of in CORE.items() for kind, plural in of.items()
        ]
        for file in sorted(crds.glob("*.yaml")) if crds else ():
            if any(part in file.name for part in only):
                self.kinds += _of_crd(file)
        self.objects: dict[Key, Object] = {}
        self.users: dict[str, User] = {"admin": User("admin", EVERYTHING)}
        self.logs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.closed: set[tuple[str, str]] = set()
        self.hooks: list[Callable[[str, Object], None]] = []
        self.webhooks: list[Callable[[Object], None]] = []
        """Each changes a pod before it is admitted; of a dry run, too."""
        self.faults: list[tuple[Callable[[str, str], bool], int]] = []
        """Which of the next requests fail, by method and path, and with which status; 0 drops the connection."""
        self.requests: list[tuple[str, str]] = []
        self.watch_epoch = 0
        self.compacted = 0
        self._events: list[tuple[int, str, Key, Object]] = []
        self._version = 100
        self.changed = threading.Condition(threading.RLock())

    # --- what tests do ---

    def fail(
        self, status: int, *, times: int = 1, when: Callable[[str, str], bool] = lambda method, path: True
    ) -> None:
        """Have the next `times` requests for which `when(method, path)` holds end with `status`; 0: with no answer."""
        self.faults += [(when, status)] * times

    def break_watches(self) -> None:
        """Drop the connections of all watches and followed logs."""
        with self.changed:
            self.watch_epoch += 1
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget the past: a watch from any earlier version gets 410."""
        with self.changed:
            self.compacted = self._version
            self._events.clear()

    def put(self, made: Object, namespace: str = "symbol-llm") -> Object:
        """Store `made` as it is, new or in place of what has its name, unchecked."""
        kind = next(k for k in self.kinds if (k.api_version, k.kind) == (made["apiVersion"], made["kind"]))
        place = "" if kind.plural in CLUSTER_WIDE else made["metadata"].setdefault("namespace", namespace)
        key = (kind.group, kind.plural, place, made["metadata"]["name"])
        return self.store(key, made)

    def get(self, plural: str, name: str, namespace: str = "symbol-llm") -> Object | None:
        """Return a copy of what is stored."""
        with self.changed:
            found = [
                o for (_, p, ns, n), o in self.objects.items() if (p, n) == (plural, name) and ns in ("", namespace)
            ]
            return copy.deepcopy(found[0]) if found else None

    def all(self, plural: str) -> list[Object]:
        """Return copies of all objects of a kind."""
        with self.changed:
            return [copy.deepcopy(o) for (_, p, _, _), o in self.objects.items() if p == plural]

    def change(self, plural: str, name: str, edit: Callable[[Object], None], namespace: str = "symbol-llm") -> Object:
        """Apply `edit` to what is stored."""
        with self.changed:
            found = next(k for k in self.objects if (k[1], k[3]) == (plural, name) and k[2] in ("", namespace))
            made = copy.deepcopy(self.objects[found])
            edit(made)
            return self.store(found, made)

    def log(self, pod: str, *lines: str, close: bool = False, namespace: str = "symbol-llm") -> None:
        """Add lines to the log of a pod; `close` ends it."""
        with self.changed:
            written = self.logs.setdefault((namespace, pod), [])
            written += [(f"2026-01-01T00:00:00.{len(written) + i:09d}Z", line) for i, line in enumerate(lines)]
            if close:
                self.closed.add((namespace, pod))
            self.changed.notify_all()

    # --- storage ---

    def store(self, key: Key, made: Object) -> Object:
        """Write one object, give it its next version, and tell watches and hooks."""
        with self.changed:
            self._version += 1
            before = self.objects.get(key)
            meta = made["metadata"]
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", now())
            meta["resourceVersion"] = str(self._version)
            is_new_spec = before is None or before.get("spec") != made.get("spec")
            meta["generation"] = (before["metadata"]["generation"] if before else 0) + is_new_spec
            self.objects[key] = copy.deepcopy(made)
            event = "MODIFIED" if before else "ADDED"
            self._events.append((self._version, event, key, copy.deepcopy(made)))
            self.changed.notify_all()
        self._tell(event, made)
        return copy.deepcopy(made)

    def remove(self, key: Key) -> None:
        """Delete one object and what it owns."""
        with self.changed:
            gone = self.objects.pop(key, None)
            if gone is None:
                return
            self._version += 1
            gone["metadata"]["resourceVersion"] = str(self._version)
            self._events.append((self._version, "DELETED", key, gone))
            uid = gone["metadata"]["uid"]
            owned = [
                k for k, o in self.objects.items()
                if uid in [ref["uid"] for ref in o["metadata"].get("ownerReferences", ())]
            ]  # fmt: skip
            self.changed.notify_all()
        for each in owned:
            self.remove(each)
        self._tell("DELETED", gone)

    def _tell(self, event: str, made: Object) -> None:
        for hook in self.hooks:
            hook(event, copy.deepcopy(made))

    def events(self, group: str, plural: str, namespace: str, since: int) -> list[tuple[int, str, Object]]:
        """Return what has happened after version `since`; Refused (410) if that is forgotten."""
        with self.changed:
            if since < self.compacted:
                raise Refused(410, "Expired", f"too old resource version: {since} ({self.compacted})")
            return [
                (version, event, copy.deepcopy(made))
                for version, event, key, made in self._events
                if version > since and key[:2] == (group, plural) and (not namespace or key[2] == namespace)
            ]

    @property
    def version(self) -> int:
        """Return the newest version."""
        with self.changed:
            return self._version


def _of_crd(file: Path) -> Iterator[Kind]:
    yaml.CSafeLoader.add_constructor("tag:yaml.org,2002:value", lambda load, node: load.construct_scalar(node))
    for crd in yaml.load_all(file.read_text(), yaml.CSafeLoader):  # noqa: S506 - safe, and fast
        if crd and crd.get("kind") == "CustomResourceDefinition":
            spec = crd["spec"]
            for v in spec["versions"]:
                if v.get("served", True):
                    schema, has_status = v["schema"]["openAPIV3Schema"], "status" in v.get("subresources", {})
                    yield Kind(
                        spec["group"], v["name"], spec["names"]["kind"], spec["names"]["plural"], schema, has_status
                    )


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- schemas -----------------------------------------------------------------------------------------------------------


def pruned(value: Any, schema: Object, path: str, unknown: list[str], definitions: Mapping[str, Object]) -> Any:
    """Return `value` without fields that `schema` does not know, which are added to `unknown`, and with its defaults."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string"):
        return value
    if isinstance(value, list) and "items" in schema:
        return [pruned(one, schema["items"], f"{path}[{i}]", unknown, definitions) for i, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    if not known and (isinstance(more, dict) or more or (more is None and path.startswith("metadata"))):
        deeper = more if isinstance(more, dict) else {}
        return {k: pruned(one, deeper, f"{path}.{k}", unknown, definitions) for k, one in value.items()}
    out = {}
    for name, one in value.items():
        inside = f"{path}.{name}" if path else name
        if name in known:
            out[name] = pruned(one, known[name], inside, unknown, definitions)
        else:
            unknown.append(inside)
    for name, deeper in known.items():
        if name not in out and "default" in deeper:
            out[name] = copy.deepcopy(deeper["default"])
    return out


@functools.cache
def _core(name: str) -> Object:
    """Return a file of the schemas of core kinds."""
    version = next(v for v in core_schemas.all_versions() if core_schemas.major_minor(v) == KUBERNETES)
    return dict(core_schemas.schema_contents(f"kubernetes-json-schema/v{version}-local/{name}.json", version))


@functools.cache
def _core_validator(name: str) -> jsonschema.Draft202012Validator:
    resources = [Resource.from_contents(_core(one)) for one in (name, "_definitions")]
    return jsonschema.Draft202012Validator(_core(name), registry=resources @ Registry())


def checked(kind: Kind, made: Object, field_validation: str) -> Object:
    """Return `made` as it is stored; Refused for a fault."""
    unknown: list[str] = []
    definitions = _core("_definitions")["$defs"]
    meta = definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]
    stem = f"{kind.kind.lower()}-{kind.group.partition('.')[0] + '-' if kind.group else ''}{kind.version}"
    schema = kind.schema or _core(stem)
    top = {**schema, "properties": {**schema["properties"], "metadata": meta, "apiVersion": {}, "kind": {}}}
    kept = pruned(made, top, "", unknown, definitions)
    if unknown and field_validation == "Strict":
        fields = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise Refused(
            400,
            "BadRequest",
            f"{kind.kind} in version {kind.version!r} cannot be handled: strict decoding error: {fields}",
        )
    name = kept.get("metadata", {}).get("name", "")
    pattern = LABEL if kind.group == "trainer.kubeflow.org" else NAME
    if not pattern.fullmatch(name) or len(name) > (63 if pattern is LABEL else 253):
        raise Refused(422, "Invalid", f"{kind.kind} {name!r} is invalid: metadata.name: Invalid value: {name!r}")
    try:
        if kind.schema is None:
            _core_validator(stem).validate(kept)
        else:
            jsonschema.Draft7Validator(_plain(kind.schema)).validate(kept)
    except jsonschema.ValidationError as e:
        place = ".".join(map(str, e.path))
        raise Refused(422, "Invalid", f'{kind.kind} "{name}" is invalid: {place}: {e.message[:200]}') from e
    return kept


def _plain(schema: Any) -> Any:
    """Return a CRD's schema as jsonschema reads it."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return {
        k: ({n: _plain(one) for n, one in v.items()} if k == "properties" else _plain(v))
        for k, v in schema.items() if not k.startswith("x-kubernetes") and k not in ("default", "description")
    }  # fmt: skip


def check_immutable(schema: Object, before: Any, after: Any, path: str = "") -> None:
    """Refused if a field changed whose rule is that it equals what it was."""
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    if "self == oldSelf" in rules and before is not None and after is not None and before != after:
        raise Refused(422, "Invalid", f"{path}: Invalid value: field is immutable")
    if isinstance(before, dict) and isinstance(after, dict):
        for name, deeper in schema.get("properties", {}).items():
            check_immutable(deeper, before.get(name), after.get(name), f"{path}.{name}".lstrip("."))


# --- admission of pods ---------------------------------------------------------------------------------------------------


def violations(spec: Object) -> list[str]:
    """Return what Pod Security's level `restricted` has against a pod: its main controls, in the real one's words."""
    pod = spec.get("securityContext", {})
    found = []
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f'allowPrivilegeEscalation != false (container "{name}" must set it to false)')
        if "ALL" not in own.get("capabilities", {}).get("drop", ()):
            found.append(
                f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
            )
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            found.append(f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)')
        if own.get("runAsUser", pod.get("runAsUser", 1)) == 0:
            found.append(f'runAsUser=0 (container "{name}" must not set runAsUser=0)')
        profile = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            found.append(f'seccompProfile (pod or container "{name}" must set securityContext.seccompProfile.type)')
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [
        f'restricted volume types (volume "{v["name"]}")' for v in spec.get("volumes", ()) if not allowed & v.keys()
    ]
    return found


def requested(spec: Object) -> dict[str, Any]:
    """Return what a pod counts for in a quota."""
    total: dict[str, Any] = {"pods": 1}
    for container in spec["containers"]:
        for side in ("requests", "limits"):
            for name, amount in container.get("resources", {}).get(side, {}).items():
                total[f"{side}.{name}"] = total.get(f"{side}.{name}", 0) + parse_quantity(amount)
    return total


# --- HTTP ----------------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One request, taken apart."""

    user: User
    kind: Kind
    namespace: str
    name: str
    sub: str
    query: Mapping[str, str]

    @property
    def key(self) -> Key:
        return self.kind.group, self.kind.plural, self.namespace, self.name


def allows(rules: tuple[Mapping[str, Any], ...], verb: str, group: str, resource: str, name: str) -> bool:
    """Return whether one of `rules` grants the verb on the resource, `pods/log` with its subresource."""

    def covers(rule: Mapping[str, Any]) -> bool:
        fits = all(
            {"*", value} & set(rule.get(key, ()))
            for key, value in (("verbs", verb), ("apiGroups", group), ("resources", resource))
        )
        names = rule.get("resourceNames")
        return fits and (not names or name in names)

    return any(map(covers, rules))


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits until its header is acknowledged: 40 ms
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        url = urlsplit(self.path)
        self.cluster.requests.append((self.command, self.path))
        for at, (when, status) in enumerate(self.cluster.faults):
            if when(self.command, self.path):
                del self.cluster.faults[at]
                if not status:
                    self.close_connection = True
                    self.connection.close()
                    return
                self._send(status, _status(Refused(status, "Injected", "the test said so")))
                return
        try:
            user = self._user()
            query = {k: v[-1] for k, v in parse_qs(url.query).items()}
            found = self._special(url.path, user, body) or self._call(url.path, user, query, body)
            if found is not None:
                self._send(*found)
        except Refused as e:
            self._send(e.code, _status(e))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _user(self) -> User:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in self.cluster.users:
            raise Refused(401, "Unauthorized", "Unauthorized")
        user, other = self.cluster.users[token], self.headers.get("Impersonate-User")
        if not other:
            return user
        _, _, _, name = other.split(":")  # system:serviceaccount:NAMESPACE:NAME
        if not allows(user.rules, "impersonate", "", "serviceaccounts", name):
            raise Refused(
                403, "Forbidden", f'serviceaccounts "{name}" is forbidden: User "{user.name}" cannot impersonate resource '
                '"serviceaccounts" in API group ""'
            )  # fmt: skip
        known = [one for one in self.cluster.users.values() if one.name == other]
        return known[0] if known else User(other, ())

    def _send(self, code: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    # --- discovery and reviews ---

    def _special(self, path: str, user: User, body: Any) -> tuple[int, Any] | None:
        if path.rstrip("/") == "/version":
            major, _, minor = KUBERNETES.partition(".")
            more = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
            return 200, {"major": major, "minor": minor, "gitVersion": f"v{KUBERNETES}.0"} | dict.fromkeys(more, "")
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
            allowed = allows(user.rules, asked["verb"], asked.get("group", ""), resource, asked.get("name", ""))
            return 201, {**body, "status": {"allowed": allowed}}
        parts = path.strip("/").split("/")
        groups = {k.group for k in self.cluster.kinds} - {""}
        if parts == ["apis"]:
            return 200, {"kind": "APIGroupList", "groups": [self._group(g) for g in sorted(groups)]}
        if len(parts) == 2 and parts[0] == "apis":
            if parts[1] not in groups:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            return 200, self._group(parts[1])
        if (len(parts), parts[0]) in ((3, "apis"), (2, "api")):
            group, version = (parts[1], parts[2]) if parts[0] == "apis" else ("", parts[1])
            served = [k for k in self.cluster.kinds if (k.group, k.version) == (group, version)]
            if not served:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            more = {"singularName": "", "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}
            names = [
                {"name": k.plural, "kind": k.kind, "namespaced": k.plural not in CLUSTER_WIDE, **more} for k in served
            ]
            return 200, {"kind": "APIResourceList", "groupVersion": served[0].api_version, "resources": names}
        return None

    def _group(self, name: str) -> Object:
        versions = sorted({k.version for k in self.cluster.kinds if k.group == name})
        return {
            "kind": "APIGroup",
            "name": name,
            "versions": [{"groupVersion": f"{name}/{v}", "version": v} for v in versions],
        }

    # --- objects ---

    def _call(self, path: str, user: User, query: Mapping[str, str], body: Any) -> tuple[int, Any] | None:
        found = re.fullmatch(
            r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<ns>[^/]+)(?=/))?"
            r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?",
            path,
        )
        of = found and (found["group"] or "", found["version"], found["plural"])
        kind = next((k for k in self.cluster.kinds if (k.group, k.version, k.plural) == of), None)
        if found is None or kind is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        call = Call(user, kind, found["ns"] or "", found["name"] or "", found["sub"] or "", query)
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        is_watch = query.get("watch") in ("true", "True", "1")
        verb = verbs.get(self.command) or ("get" if call.name else "watch" if is_watch else "list")
        resource = kind.plural + (f"/{call.sub}" if call.sub else "")
        if not allows(user.rules, verb, kind.group, resource, call.name):
            where = f' in the namespace "{call.namespace}"' if call.namespace else " at the cluster scope"
            raise Refused(
                403, "Forbidden", f'{resource} is forbidden: User "{user.name}" cannot {verb} resource "{resource}" '
                f'in API group "{kind.group}"{where}'
            )  # fmt: skip
        return getattr(self, f"_{verb}")(call, body)  # type: ignore[no-any-return]

    def _stored(self, call: Call) -> Object:
        with self.cluster.changed:
            if call.key not in self.cluster.objects:
                raise Refused(404, "NotFound", f'{call.kind.plural} "{call.name}" not found')
            return copy.deepcopy(self.cluster.objects[call.key])

    def _get(self, call: Call, _: Any) -> tuple[int, Any] | None:
        found = self._stored(call)
        if call.sub == "log":
            self._log(call, found)
            return None
        return 200, found

    def _list(self, call: Call, _: Any) -> tuple[int, Any]:
        with self.cluster.changed:
            items = [copy.deepcopy(o) for k, o in self.cluster.objects.items() if self._is_of(call, k)]
            meta = {"resourceVersion": str(self.cluster.version)}
        selected = [o for o in items if selects(call.query, o)]
        return 200, {
            "apiVersion": call.kind.api_version,
            "kind": f"{call.kind.kind}List",
            "metadata": meta,
            "items": selected,
        }

    def _is_of(self, call: Call, key: Key) -> bool:
        return key[:2] == call.key[:2] and (not call.namespace or key[2] == call.namespace)

    def _create(self, call: Call, body: Any) -> tuple[int, Any]:
        body = {k: v for k, v in body.items() if v is not None}
        if (body.get("apiVersion"), body.get("kind")) != (call.kind.api_version, call.kind.kind):
            raise Refused(400, "BadRequest", f"the API version in the data ({body.get('apiVersion')}) does not match")
        if body.get("metadata", {}).get("resourceVersion"):
            raise Refused(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        made = checked(call.kind, body, call.query.get("fieldValidation", ""))
        if made["metadata"].setdefault("namespace", call.namespace) != call.namespace:
            raise Refused(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            )
        if call.kind.has_status:
            made.pop("status", None)
        key = (*call.key[:3], made["metadata"]["name"])
        with self.cluster.changed:
            if call.namespace and ("", "namespaces", "", call.namespace) not in self.cluster.objects:
                raise Refused(404, "NotFound", f'namespaces "{call.namespace}" not found')
            if key in self.cluster.objects:
                raise Refused(409, "AlreadyExists", f'{call.kind.plural} "{key[3]}" already exists')
            if call.kind.plural == "pods":
                for change in self.cluster.webhooks:
                    change(made)
                self._admit(made, call.namespace)
            if call.query.get("dryRun") == "All":
                return 201, made
            return 201, self.cluster.store(key, made)

    def _admit(self, pod: Object, namespace: str) -> None:
        name = pod["metadata"]["name"]
        labels = self.cluster.objects["", "namespaces", "", namespace]["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") == "restricted" and (found := violations(pod["spec"])):
            raise Refused(
                403,
                "Forbidden",
                f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {", ".join(found)}',
            )
        account = pod["spec"].get("serviceAccountName")
        if account and ("", "serviceaccounts", namespace, account) not in self.cluster.objects:
            raise Refused(
                403, "Forbidden", f'pods "{name}" is forbidden: error looking up service account {namespace}/{account}: '
                f'serviceaccount "{account}" not found'
            )  # fmt: skip
        wanted = requested(pod["spec"])
        for key, quota in self.cluster.objects.items():
            if key[1:3] != ("resourcequotas", namespace):
                continue
            hard, used = quota["spec"]["hard"], quota.get("status", {}).get("used", {})
            for resource, limit in hard.items():
                plain = f"requests.{resource}" if resource in ("cpu", "memory") else resource
                asked, has = wanted.get(plain), parse_quantity(used.get(resource, "0"))
                if asked is None and plain in MUST_SPECIFY:
                    raise Refused(
                        403, "Forbidden", f'pods "{name}" is forbidden: failed quota: {key[3]}: must specify {resource}'
                    )
                if asked is not None and has + asked > parse_quantity(limit):
                    raise Refused(
                        403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: {key[3]}, requested: {resource}={asked}, '
                        f"used: {resource}={has}, limited: {resource}={limit}"
                    )  # fmt: skip

    def _patch(self, call: Call, body: Any) -> tuple[int, Any]:
        if "merge-patch" not in (self.headers.get("Content-Type") or ""):
            raise Refused(415, "UnsupportedMediaType", "only merge patches are served here")
        return self._write(
            call, lambda before: merged(before, body), str(body.get("metadata", {}).get("resourceVersion", ""))
        )

    def _update(self, call: Call, body: Any) -> tuple[int, Any]:
        version = str(body.get("metadata", {}).get("resourceVersion", ""))
        if not version:
            raise Refused(
                422, "Invalid", "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
            )
        return self._write(call, lambda before: copy.deepcopy(body), version)

    def _write(self, call: Call, change: Callable[[Object], Object], version: str) -> tuple[int, Any]:
        with self.cluster.changed:
            before = self._stored(call)
            if version and version != before["metadata"]["resourceVersion"]:
                raise Refused(
                    409, "Conflict", f'Operation cannot be fulfilled on {call.kind.plural} "{call.name}": the object has been '
                    "modified; please apply your changes to the latest version and try again"
                )  # fmt: skip
            after = checked(call.kind, change(before), call.query.get("fieldValidation", ""))
            if call.sub == "status":
                after = before | ({"status": after["status"]} if "status" in after else {})
            elif call.kind.has_status:
                after = {k: v for k, v in after.items() if k != "status"} | (
                    {"status": before["status"]} if "status" in before else {}
                )
            for fixed in ("uid", "creationTimestamp", "name"):
                after["metadata"][fixed] = before["metadata"][fixed]
            check_immutable(call.kind.schema or {}, before, after)
            if call.query.get("dryRun") == "All":
                return 200, after
            made = self.cluster.store(call.key, after)
            if "deletionTimestamp" in made["metadata"] and not made["metadata"].get("finalizers"):
                self.cluster.remove(call.key)
            return 200, made

    def _delete(self, call: Call, body: Any) -> tuple[int, Any]:
        with self.cluster.changed:
            found = self._stored(call)
            for key, wanted in ((body or {}).get("preconditions") or {}).items():
                if wanted and found["metadata"][key] != wanted:
                    raise Refused(409, "Conflict", f"the precondition {key} does not hold")
            if call.query.get("dryRun") == "All":
                return 200, found
            if found["metadata"].get("finalizers"):
                found["metadata"].setdefault("deletionTimestamp", now())
                return 200, self.cluster.store(call.key, found)
        self.cluster.remove(call.key)
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    # --- streams ---

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Callable[[bytes], None]]:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def send(text: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
            self.wfile.flush()

        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            yield send
            self.wfile.write(b"0\r\n\r\n")

    def _watch(self, call: Call, _: Any) -> None:
        cluster, query = self.cluster, call.query
        until = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        since, epoch = int(query.get("resourceVersion") or cluster.version), cluster.watch_epoch
        with self._stream() as send:
            while time.monotonic() < until:
                try:
                    found = cluster.events(call.kind.group, call.kind.plural, call.namespace, since)
                except Refused as e:
                    send(_line({"type": "ERROR", "object": _status(e)}))
                    return
                for version, event, made in found:
                    since = version
                    if selects(query, made):
                        send(_line({"type": event, "object": made}))
                with cluster.changed:
                    if cluster.watch_epoch != epoch:
                        self._drop()
                        return
                    if not cluster.changed.wait(BOOKMARK_S) and query.get("allowWatchBookmarks") in ("true", "True"):
                        since = cluster.version
                        mark = {"apiVersion": call.kind.api_version, "kind": call.kind.kind}
                        send(
                            _line({"type": "BOOKMARK", "object": mark | {"metadata": {"resourceVersion": str(since)}}})
                        )

    def _log(self, call: Call, pod: Object) -> None:
        cluster, query, place = self.cluster, call.query, (call.namespace, call.name)
        containers = [c["name"] for c in pod["spec"]["containers"]]
        if query.get("container", containers[0]) not in containers:
            raise Refused(400, "BadRequest", f"container {query['container']} is not valid for pod {call.name}")
        if pod.get("status", {}).get("phase", "Pending") == "Pending":
            raise Refused(400, "BadRequest", f'container "{containers[0]}" in pod "{call.name}" is waiting to start')
        is_true, epoch = ("true", "True"), cluster.watch_epoch
        tail = int(query.get("tailLines") or 0)
        n_sent = max(0, len(cluster.logs.get(place, ())) - tail) if tail else 0
        with self._stream() as send:
            while True:
                with cluster.changed:
                    lines = cluster.logs.get(place, [])[n_sent:]
                    is_closed = place in cluster.closed or call.key not in cluster.objects
                for at, line in lines:
                    send(f"{at + ' ' if query.get('timestamps') in is_true else ''}{line}\n".encode())
                n_sent += len(lines)
                if query.get("follow") not in is_true or (is_closed and not lines):
                    return
                with cluster.changed:
                    if cluster.watch_epoch != epoch:
                        self._drop()
                        return
                    cluster.changed.wait(BOOKMARK_S)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()


def merged(under: Any, over: Any) -> Any:
    """Return a JSON merge patch applied (RFC 7386)."""
    if not isinstance(over, dict):
        return over
    out = dict(under) if isinstance(under, dict) else {}
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


def selects(query: Mapping[str, str], made: Object) -> bool:
    """Return whether an object passes the field and label selectors of a request; of fields, only its name."""
    labels = made["metadata"].get("labels", {})
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, sign, value = term.partition("=")
        if (key not in labels) if not sign else labels.get(key) != value.removeprefix("="):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        if key != "metadata.name":
            raise Refused(400, "BadRequest", f"field label not supported: {key}")
        if made["metadata"]["name"] != value:
            return False
    return True


def _line(value: Object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _status(e: Refused) -> Object:
    said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return said | {"message": e.message, "reason": e.reason, "code": e.code}


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """Serve `cluster` for the block; give the address."""
    handler = type("Of", (Handler,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            cluster.break_watches()
            server.shutdown()
