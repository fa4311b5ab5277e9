"""The fleet's directory: keys, the TUF repository that devices fetch from, and plain copies of what was published.

::

    fleet/keys/offline/   root-1.pem root-2.pem root-3.pem targets.pem    move these away after fleet init
    fleet/keys/online/    snapshot.pem timestamp.pem releases-<model>.pem
    fleet/repository/     metadata/ and targets/, to be served over HTTP
    fleet/releases/       <model>/<version>/: published releases as directories
                          <model>/<version>.work/: what the trainer goes on from, never served

Invariants, held by ``tests/cloud_trainer/registry``:

1. Publishing and refreshing need the online keys only.
2. A process killed at any moment leaves a repository that devices accept, with the release or without it.
3. A version is published once, and versions only grow.
4. What is signed are the bytes that were verified against the manifest, in a copy that nobody else writes to.
"""

from cloud_trainer.registry.registry import Registry

__all__ = ["Registry"]
