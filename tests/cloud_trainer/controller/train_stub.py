"""Stands in for ``cloud-trainer train``: checks what it is given and copies the parent as the candidate.

A file ``trainer.json`` beside the task says how it behaves: {"wait_for": PATH, "fail": TEXT, "gates": false}.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from shared.manifest import load_manifest, save_manifest


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--version", type=int)
    parser.add_argument("--parent", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    file = args.task.parent / "trainer.json"
    behaviour = json.loads(file.read_text()) if file.exists() else {}
    for path in sorted(args.labelled.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            assert data["x"].dtype == np.uint8
            assert data["x"].shape == (len(data["ids"]), 16, 16)
            assert data["y"].dtype == np.int64
            text = f"{path.stem}: {len(data['ids'])} samples"
        print(json.dumps({"stage": path.stem, "fraction": 0.1, "text": text}), file=sys.stderr, flush=True)
    args.out.parent.joinpath("started").touch()
    while "wait_for" in behaviour and not Path(behaviour["wait_for"]).exists():
        time.sleep(0.02)
    if "fail" in behaviour:
        print(behaviour["fail"], file=sys.stderr)
        return 1
    shutil.copytree(args.parent, args.out)
    manifest = load_manifest(args.out)
    lineage = msgspec.structs.replace(manifest.lineage, parent=manifest.version)
    passed = behaviour.get("gates", True)
    (args.out / "gates.json").write_text(json.dumps({"passed": passed, "text": "better on cam-1" if passed else "no"}))
    save_manifest(msgspec.structs.replace(manifest, version=args.version, lineage=lineage), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
