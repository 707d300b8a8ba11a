"""`python -m k8s.check`: build every overlay, and hold each object strictly to its schema.

Kinds of Kubernetes itself by the package kubernetes-validate; custom resources by the JSON schemas
of their CustomResourceDefinitions, one file a kind (`<kind>_<group>_<version>.json`), in the folder
that HEARLOOP_CRD_SCHEMAS names, else in `shared/schemas` beside the checkout.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

__all__ = ["K8S", "KUBERNETES", "OVERLAYS", "build", "folder_of_schemas", "problems"]

K8S: Final = Path(__file__).parent
KUBERNETES: Final = "1.32"
"""Version of the clusters: the default of terraform/modules/cluster."""
OVERLAYS: Final = tuple(
    sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
)
OWN_GROUPS: Final = frozenset(
    {"networking.k8s.io", "rbac.authorization.k8s.io", "scheduling.k8s.io", "storage.k8s.io"}
)
"""Groups of Kubernetes itself that have a dot; any other with one is somebody's custom resource."""

Manifest = dict[str, Any]


@cache
def build(overlay: str) -> tuple[Manifest, ...]:
    """The objects of an overlay. Raises FileNotFoundError without kubectl, ValueError for an
    overlay that cannot be built."""
    if shutil.which("kubectl") is None:
        raise FileNotFoundError("kubectl is not installed: it builds the overlays")
    command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"Overlay {overlay} cannot be built: {done.stderr.strip()}")
    return tuple(yaml.safe_load_all(done.stdout))


def folder_of_schemas() -> Path | None:
    """Where the schemas of custom resources lie; None where there are none."""
    named = os.environ.get("HEARLOOP_CRD_SCHEMAS")
    folder = Path(named) if named else K8S.parents[1] / "shared" / "schemas"
    return folder if folder.is_dir() else None


def problems(manifest: Manifest, schemas: Path | None) -> Iterator[str]:
    """What is wrong with one object, a sentence each. Without schemas custom resources pass."""
    label = f"{manifest['kind']} {manifest['metadata']['name']}"
    if not is_custom(manifest):
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{label}: {'.'.join(str(part) for part in error.path)}: {error.message}"
        return
    if schemas is None:
        return
    path = schemas / schema_name(manifest)
    if not path.exists():
        yield f"{label}: there is no schema {path.name} in {schemas}; add it"
        return
    for wrong in _validator(path).iter_errors(manifest):
        yield f"{label}: {wrong.json_path}: {wrong.message[:300]}"


def is_custom(manifest: Manifest) -> bool:
    """Whether the kind is a custom resource, by its API group."""
    group, slash, _ = manifest["apiVersion"].rpartition("/")
    return bool(slash) and "." in group and group not in OWN_GROUPS


def schema_name(manifest: Manifest) -> str:
    """File name of the schema of a custom resource."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    return f"{manifest['kind'].lower()}_{group}_{version}.json"


@cache
def _validator(path: Path) -> jsonschema.Draft7Validator:
    # Not `jsonschema.validate`: checking the schema itself takes 5 s for one with pods in it.
    return jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))


def main() -> int:
    """Print a line for each overlay and one for each problem; the exit status is 1 with any."""
    schemas = folder_of_schemas()
    if schemas is None:
        print("no schemas of custom resources beside the checkout: only core kinds are checked")
    found = 0
    for overlay in OVERLAYS:
        objects = build(overlay)
        wrong = [problem for one in objects for problem in problems(one, schemas)]
        print(f"{overlay}: {len(objects)} objects, {len(wrong)} problems")
        for problem in wrong:
            print(f"  {problem}")
        found += len(wrong)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
