"""Somebody who owns the network, the repository's server or the broker, but not the keys (or not all of them)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata, Root

from cloud_trainer.registry import Registry, roles
from cloud_trainer.registry.keys import create_key, load_key
from cloud_trainer.registry.repository import Repository
from cloud_trainer.registry.signing import OnlineSigner
from edge_agent.updates.fetcher import BoundedFetcher
from edge_agent.updates.note import ReleaseNote, role_of
from shared.enrolment import save_enrolment
from shared.errors import TrustError, UpdateError
from shared.manifest import FileReference, encode_manifest, load_manifest, reference_file
from tests.edge_agent.updates.fleets import DAY, Fleet, contents, damaged, everything, first


def running(fleet: Fleet) -> int:
    """Version that the device would run after a restart."""
    current = fleet.device().current()
    assert current is not None
    return current.version


@pytest.fixture
def updating(fleet: Fleet) -> Fleet:
    """A device that runs release 1, and a repository that holds 2."""
    fleet.publish(1)
    device = fleet.device()
    device.commit(device.fetch(1, everything))
    fleet.publish(2)
    return fleet


@pytest.mark.parametrize("name", ["variants/fp32-onnx.onnx", "golden.npz", "profile.npz", "manifest.json"])
def test_a_damaged_file_is_refused(updating: Fleet, name: str) -> None:
    updating.server.lies[updating.target(2, name)] = damaged
    with pytest.raises(TrustError, match=r"length or digest differs from what is signed"):
        updating.device().fetch(2, everything)
    assert running(updating) == 1
    assert contents(updating.state() / "models" / "digits" / "b") == {}


@pytest.mark.parametrize(
    "name", ["timestamp.json", "3.snapshot.json", "3.releases/digits.json", "1.targets.json", "2.root.json"]
)
def test_metadata_signed_with_somebody_elses_key_is_refused(updating: Fleet, tmp_path: Path, name: str) -> None:
    stranger = Registry.create(tmp_path / "stranger", ["digits"], now=updating.now)
    for version in (1, 2):
        stranger.publish(updating.release(version), now=updating.now)
    forged = stranger.repository / "metadata" / name.replace("2.root", "1.root")
    updating.server.lies[f"metadata/{name}"] = forged.read_bytes()
    with pytest.raises(TrustError, match=r"signature missing or wrong|length or digest differs"):
        updating.device("cam-9").fetch(2, everything)


def test_a_timestamp_with_a_broken_signature_is_refused(updating: Fleet) -> None:
    def forged(data: bytes) -> bytes:
        found = json.loads(data)
        found["signed"]["version"] += 1
        return json.dumps(found).encode()

    updating.server.lies["metadata/timestamp.json"] = forged
    with pytest.raises(TrustError, match="signature missing or wrong"):
        updating.device().fetch(2, everything)
    assert running(updating) == 1


def test_an_old_repository_is_replayed_to_a_fresh_device(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    shutil.copytree(fleet.registry.repository, tmp_path / "old")
    fleet.publish(2)
    device = fleet.device()
    fleet.server.root = tmp_path / "old"
    with pytest.raises(TrustError, match="it is an old copy"):
        device.fetch(1, everything)


def test_an_old_repository_is_replayed_to_a_device_whose_cache_was_wiped(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    enrolment = fleet.enrolment()
    shutil.copytree(fleet.registry.repository, tmp_path / "old")
    fleet.publish(2)
    device = fleet.device(enrolment=enrolment)
    device.fetch(2, first)
    shutil.rmtree(fleet.state() / "tuf")
    fleet.server.root = tmp_path / "old"
    with pytest.raises(TrustError, match="it is an old copy"):
        device.fetch(1, everything)


def test_an_old_repository_is_replayed_to_a_device_with_its_cache(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    enrolment = fleet.enrolment()
    shutil.copytree(fleet.registry.repository, tmp_path / "old")
    fleet.publish(2)
    device = fleet.device(enrolment=enrolment)
    device.fetch(2, first)
    (fleet.state() / "floors.json").unlink()
    fleet.server.root = tmp_path / "old"
    with pytest.raises(TrustError, match="older than what this device has seen"):
        device.fetch(1, everything)


def test_the_repository_is_frozen_until_its_timestamp_expires(updating: Fleet) -> None:
    updating.now += 8 * DAY
    with pytest.raises(TrustError, match=r"timestamp.json is expired \(judged at .*what is installed keeps running"):
        updating.device(enrolment=updating.enrolment()).fetch(2, first)
    assert running(updating) == 1


@pytest.mark.parametrize(
    ("asked", "sent"), [("3.snapshot.json", "2.snapshot.json"), ("3.releases/digits.json", "2.releases/digits.json")]
)
def test_parts_of_two_states_of_the_repository_are_mixed(updating: Fleet, asked: str, sent: str) -> None:
    metadata = updating.registry.repository / "metadata"
    updating.server.lies[f"metadata/{asked}"] = (metadata / sent).read_bytes()
    with pytest.raises(TrustError, match="length or digest differs"):
        updating.device().fetch(2, everything)
    assert running(updating) == 1


def test_a_file_of_another_release_is_sent(updating: Fleet) -> None:
    old = updating.registry.repository / updating.target(1, "manifest.json")
    updating.server.lies[updating.target(2, "manifest.json")] = old.read_bytes()
    with pytest.raises(TrustError, match="length or digest differs"):
        updating.device().fetch(2, everything)


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/2.root.json", "metadata/3.snapshot.json"])
def test_metadata_never_ends(updating: Fleet, name: str) -> None:
    updating.server.endless.add(name)
    with pytest.raises(TrustError, match="sends more than is signed or allowed"):
        updating.device().fetch(2, everything)
    assert updating.server.sent < 16 << 20  # what fits into socket buffers, not what the sender wants


def test_a_file_never_ends(updating: Fleet) -> None:
    updating.server.endless.add(updating.target(2, "variants/int8-onnx.onnx"))
    with pytest.raises(TrustError, match="sends more than is signed or allowed"):
        updating.device().fetch(2, everything)
    assert updating.server.sent < 16 << 20
    assert contents(updating.state() / "models" / "digits" / "b") == {}


def test_a_file_comes_so_slowly_that_the_update_would_never_end(updating: Fleet, tmp_path: Path) -> None:
    from tuf.api.exceptions import SlowRetrievalError

    moments = iter(range(0, 1_000_000, 3600))
    fetcher = BoundedFetcher(tmp_path, monotonic=lambda: float(next(moments)))
    url = f"{updating.server.url}/{updating.target(2, 'golden.npz')}"
    with pytest.raises(SlowRetrievalError, match="less than 1024 bytes/s"):
        fetcher.download_bytes(url, 1 << 20)


def sign(fleet: Fleet, path: Path, version: int, note: ReleaseNote | None, name: str = "manifest.json") -> None:
    """What a thief of the online keys can do: sign any file ``path`` as manifest of ``version``, with any note."""
    repository = Repository(fleet.registry.repository, fleet.base / "fleet" / "staging")
    signer = OnlineSigner(repository, fleet.base / "fleet" / "keys" / "online")
    role = repository.role(role_of("digits"))
    file = msgspec.structs.replace(reference_file(path.parent, path.name), path=name)
    shown = note or ReleaseNote("digits", version, ())
    records = roles.release_targets(msgspec.structs.replace(shown, version=version, model="digits"), [file], name)
    for record in records.values():
        record.unrecognized_fields = {"custom": {"sanderling": msgspec.to_builtins(note)}} if note else {}
    role.targets.update(records)
    folder = path.parent / "as-named"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / name)
    repository.add_target("digits", version, file, folder)
    signer.publish({"digits": role}, fleet.now)


@pytest.mark.parametrize(
    "name", ["../../../../escaped", "/tmp/escaped", "a/../../b", "manifest.json", ".manifest.json", "golden.npz", ""]
)
def test_a_signed_manifest_names_files_outside_its_directory_or_twice(updating: Fleet, name: str) -> None:
    manifest = load_manifest(updating.release(2))
    hostile = msgspec.structs.replace(
        manifest, version=3, profile=FileReference(name, manifest.profile.bytes, "0" * 64)
    )
    path = updating.base / "hostile.json"
    path.write_bytes(encode_manifest(hostile))
    sign(updating, path, 3, ReleaseNote("digits", 3, ()))
    before = contents(updating.base / "devices")
    with pytest.raises(TrustError, match=r"must be relative and stay inside|uses the file name .* twice"):
        updating.device().fetch(3, first)
    assert running(updating) == 1
    changed = {n for n, data in contents(updating.base / "devices").items() if before.get(n) != data}
    assert all("/tuf/" in n or n.endswith("floors.json") for n in changed)


def test_a_signed_manifest_is_that_of_another_version(updating: Fleet) -> None:
    sign(updating, updating.release(1) / "manifest.json", 3, ReleaseNote("digits", 3, ()))
    with pytest.raises(TrustError, match=r"the manifest says digits/1, not digits/3"):
        updating.device().fetch(3, first)


def test_a_signed_manifest_and_the_signed_metadata_name_different_files(updating: Fleet) -> None:
    manifest = load_manifest(updating.release(2))
    other = msgspec.structs.replace(manifest.golden, sha256="0" * 64)
    path = updating.base / "other.json"
    path.write_bytes(encode_manifest(msgspec.structs.replace(manifest, version=3, golden=other)))
    sign(updating, path, 3, ReleaseNote("digits", 3, ()))
    sign(updating, updating.release(2) / "golden.npz", 3, None, "golden.npz")
    with pytest.raises(TrustError, match="the signed metadata and the manifest name different files"):
        updating.device().fetch(3, first)


def test_a_signed_manifest_is_larger_than_any_manifest(updating: Fleet) -> None:
    path = updating.base / "large.json"
    path.write_bytes(b" " * (2 << 20))
    sign(updating, path, 3, ReleaseNote("digits", 3, ()))
    with pytest.raises(TrustError, match="at most 1048576 are allowed"):
        updating.device().fetch(3, first)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (None, "carries no release note"),
        (ReleaseNote("digits", 2, ()), "the signed note is for digits/2"),
        (ReleaseNote("faces", 3, ()), "the signed note is for faces/3"),
        (ReleaseNote("digits", 3, (), (), 4_000_000_000), "not-before time 4000000000 lies in the future"),
    ],
)
def test_the_signed_note_is_missing_or_of_something_else(
    updating: Fleet, note: ReleaseNote | None, message: str
) -> None:
    sign(updating, updating.release(2) / "manifest.json", 3, note)
    with pytest.raises(TrustError, match=message):
        updating.device().fetch(3, first)
    # and the device's idea of the time was not moved by it
    assert updating.device().fetch(2, first).version == 2


def test_one_models_key_signs_for_another_model(updating: Fleet, tmp_path: Path) -> None:
    fleet = tmp_path / "two"
    registry = Registry.create(fleet, ["digits", "faces"], now=updating.now)
    registry.publish(updating.release(1), now=updating.now)
    repository = Repository(registry.repository, fleet / "staging")
    role = repository.role("releases/faces")
    release = updating.release(1)
    files = [reference_file(release, "manifest.json")]
    role.targets.update(roles.release_targets(ReleaseNote("digits", 2, ()), files, "manifest.json"))
    OnlineSigner(repository, fleet / "keys" / "online").publish({"faces": role}, updating.now)
    updating.server.root = registry.repository
    enrolment = registry.enrol(
        "cam-1", site="plant", broker=updating.enrolment().broker, url=updating.server.url, now=updating.now
    )
    with pytest.raises(UpdateError, match=r"digits/2/manifest\.json is not in the repository"):
        updating.device("cam-7", enrolment=enrolment).fetch(2, first)


def test_the_clock_starts_in_1970(updating: Fleet) -> None:
    assert updating.device(clock=lambda: 0.0).fetch(2, first).version == 2


def test_a_clock_in_1970_does_not_bring_an_expired_repository_back(updating: Fleet) -> None:
    frozen = updating.enrolment()
    updating.now += 6 * DAY
    updating.registry.refresh(updating.now)
    updating.device(enrolment=frozen).fetch(2, first)  # the device has seen this day
    shutil.rmtree(updating.state() / "tuf")
    late = msgspec.structs.replace(frozen, not_before=updating.now + 8 * DAY)
    with pytest.raises(TrustError, match="expired"):
        updating.device(enrolment=late, clock=lambda: 0.0).fetch(2, first)


def test_a_clock_that_runs_years_ahead_stops_updates_only_while_it_does(updating: Fleet) -> None:
    with pytest.raises(TrustError, match=r"expired \(judged at 20[3-9]"):
        updating.device(clock=lambda: updating.now + 10 * 365 * DAY).fetch(2, first)
    assert updating.device().fetch(2, first).version == 2


def test_an_enrolment_with_a_root_that_nobody_signed(updating: Fleet, tmp_path: Path) -> None:
    root = json.loads(json.dumps(updating.enrolment().root))
    root["signatures"] = root["signatures"][:1]
    enrolment = msgspec.structs.replace(updating.enrolment(), root=root)
    with pytest.raises(TrustError, match="root of the enrolment file: signature missing or wrong"):
        updating.device("cam-8", enrolment=enrolment).fetch(2, first)


def test_a_key_that_is_not_the_fleets_cannot_publish(updating: Fleet) -> None:
    from shared.errors import ConfigError

    create_key(updating.base / "fleet" / "keys" / "online" / "releases-digits.pem")
    before = contents(updating.registry.repository / "metadata")
    with pytest.raises(ConfigError, match="not the key that this fleet's metadata names for releases/digits"):
        updating.publish(3)
    assert contents(updating.registry.repository / "metadata") == before


WITHOUT_CRYPTOGRAPHY = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"cryptography", "nacl"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from edge_agent.updates import Updater
from shared.enrolment import load_enrolment
from shared.errors import TrustError
here, now, version = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
updater = Updater(load_enrolment(here / "cam-1.json"), here / "state", "digits", clock=lambda: now)
try:
    print("took", updater.fetch(version, lambda manifest: manifest.variants[:1]).version)
except TrustError as error:
    print("refused", error)
assert "cryptography" not in sys.modules
"""


@pytest.mark.parametrize(("lie", "answer"), [(False, "took 2"), (True, "refused metadata: signature")])
def test_signatures_are_verified_where_cryptography_is_not_installed(
    updating: Fleet, tmp_path: Path, lie: bool, answer: str
) -> None:
    save_enrolment(updating.enrolment(), tmp_path / "cam-1.json")
    if lie:
        updating.server.lies["metadata/timestamp.json"] = lambda data: data.replace(b'"sig":"', b'"sig":"00', 1)
    arguments = [sys.executable, "-c", WITHOUT_CRYPTOGRAPHY, str(tmp_path), str(updating.now), "2"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.stdout[: len(answer)], done.stderr, done.returncode) == (answer, "", 0)


def stolen(fleet: Fleet, version: int) -> None:
    """A thief of the snapshot and timestamp keys runs their versions up."""
    repository = Repository(fleet.registry.repository, fleet.base / "fleet" / "staging")
    keys = fleet.base / "fleet" / "keys" / "online"
    snapshot, timestamp = repository.snapshot(), repository.timestamp()
    snapshot.version = timestamp.version = version
    data = roles.signed_bytes(snapshot, [load_key(keys / "snapshot.pem")])
    repository.write_metadata(f"{version}.snapshot.json", data)
    timestamp.snapshot_meta = roles.described(version, data)
    repository.write_metadata("timestamp.json", roles.signed_bytes(timestamp, [load_key(keys / "timestamp.pem")]))


def replaced(fleet: Fleet, *, signatures: int) -> None:
    """The owner replaces these keys by a new root, signed by as many root keys, and goes on from version 10."""
    repository = Repository(fleet.registry.repository, fleet.base / "fleet" / "staging")
    keys = fleet.base / "fleet" / "keys"
    root = Metadata[Root].from_bytes(repository.latest_root()).signed
    new = {role: create_key(keys / "online" / f"{role}.pem") for role in ("snapshot", "timestamp")}
    for role, signer in new.items():
        root.revoke_key(root.roles[role].keyids[0], role)
        root.add_key(signer.public_key, role)
    root.version += 1
    signers = [load_key(keys / "offline" / f"root-{n}.pem") for n in (1, 2)][:signatures]
    repository.write_metadata("2.root.json", roles.signed_bytes(root, signers))
    snapshot, timestamp = repository.snapshot(), repository.timestamp()
    snapshot.version = timestamp.version = 10
    data = roles.signed_bytes(snapshot, [new["snapshot"]])
    repository.write_metadata("10.snapshot.json", data)
    timestamp.snapshot_meta = roles.described(10, data)
    repository.write_metadata("timestamp.json", roles.signed_bytes(timestamp, [new["timestamp"]]))


def test_the_owner_takes_the_fleet_back_from_a_thief_who_ran_the_versions_up(updating: Fleet) -> None:
    device = updating.device()
    stolen(updating, 1000)
    device.fetch(2, first)
    thiefs = (updating.registry.repository / "metadata" / "timestamp.json").read_bytes()
    replaced(updating, signatures=2)
    assert device.fetch(2, first).version == 2
    updating.server.lies["metadata/timestamp.json"] = thiefs
    with pytest.raises(TrustError, match="signature missing or wrong"):
        device.fetch(2, first)


def test_one_stolen_root_key_is_not_enough_to_replace_keys(updating: Fleet) -> None:
    device = updating.device()
    replaced(updating, signatures=1)
    with pytest.raises(TrustError, match="signature missing or wrong: root was signed by 1/2 keys"):
        device.fetch(2, first)


def test_the_root_before_a_replacement_is_replayed_to_a_device_whose_cache_was_wiped(
    updating: Fleet, tmp_path: Path
) -> None:
    enrolment = updating.enrolment()
    shutil.copytree(updating.registry.repository, tmp_path / "old")
    replaced(updating, signatures=2)
    device = updating.device(enrolment=enrolment)
    device.fetch(2, first)
    shutil.rmtree(updating.state() / "tuf")
    updating.server.root = tmp_path / "old"
    with pytest.raises(TrustError, match="offers root version 1, but this device knows of version 2"):
        device.fetch(2, first)
