"""Folders of images and sounds, normal samples and anomalies."""

from __future__ import annotations

import builtins
import os

import numpy as np
import pytest
from PIL import Image

from cloud_trainer.data import join, load_splits
from cloud_trainer.data.audio_folder import resample, to_int16
from cloud_trainer.data.loading import load
from shared.errors import ConfigError, DataError, MissingExtraError, UsageError
from tests.cloud_trainer.data.samples import task, write_images, write_sounds, write_wav


def said(loaded, check):
    return [finding.text for finding in loaded.findings if finding.check == check]


def test_images_of_a_folder_for_each_class(tmp_path):
    path = write_images(tmp_path / "d", ["cat", "dog"], 120)
    splits = load_splits(task("image-classification", format="image-folder", path=path))
    assert splits.train.labels == ("cat", "dog")
    assert splits.train.x.shape[1:] == (8, 8)
    assert splits.train.x.dtype == np.uint8
    assert sum(map(len, splits.parts().values())) == 240
    assert not splits.findings


def test_pixels_are_those_of_the_file(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"], 60, mode="RGB")
    data = load(task("image-classification", format="image-folder", path=path)).data
    assert data.x.shape == (120, 8, 8, 3)
    with Image.open(tmp_path / "d" / "a" / "part0_0.png") as image:
        assert (data.x[0] == np.asarray(image)).all()


def test_views_of_one_part_stay_together(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"], 120)
    splits = load_splits(task("image-classification", format="image-folder", path=path, group="prefix"))
    seen = [set(part.groups.tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == 30
    with pytest.raises(ConfigError, match="one of prefix, folder; got 'camera'"):
        load(task("image-classification", format="image-folder", path=path, group="camera"))


def test_mixed_image_sizes_are_brought_to_the_most_common_and_named(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"])
    Image.new("L", (20, 30)).save(tmp_path / "d" / "a" / "large.png")
    loaded = load(task("image-classification", format="image-folder", path=path))
    assert loaded.data.x.shape == (121, 8, 8)
    assert said(loaded, "image sizes") == ["1 of 121 images are of another size (there are 2): brought to 8 x 8"]
    loaded = load(task("image-classification", format="image-folder", path=path, image_size=(6, 5)))
    assert loaded.data.x.shape == (121, 6, 5)
    with pytest.raises(ConfigError, match=r"data.image_size: expected"):
        load(task("image-classification", format="image-folder", path=path, image_size=(6,)))


def test_grey_images_among_coloured_ones(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"], mode="RGB")
    Image.new("L", (8, 8), 7).save(tmp_path / "d" / "a" / "grey.png")
    loaded = load(task("image-classification", format="image-folder", path=path))
    assert loaded.data.x.shape == (121, 8, 8, 3)
    assert "1 of 121 images are grey" in said(loaded, "image colours")[0]


def test_corrupt_images_are_skipped_and_named_until_they_are_many(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"])
    whole = (tmp_path / "d" / "a" / "part0_0.png").read_bytes()
    (tmp_path / "d" / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d" / "b" / "none.png").write_bytes(b"no image")
    loaded = load(task("image-classification", format="image-folder", path=path))
    assert len(loaded.data) == 120
    assert "2 of 122 images cannot be read and were skipped" in said(loaded, "unreadable")[0]
    for i in range(20):
        (tmp_path / "d" / "b" / f"none{i}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2[12] of 142 images cannot be read, more than 10%"):
        load(task("image-classification", format="image-folder", path=path))


def test_empty_class_and_no_classes(tmp_path):
    path = write_images(tmp_path / "d", ["a", "b"], 4)
    (tmp_path / "d" / "c").mkdir()
    (tmp_path / "d" / "c" / "notes.txt").touch()
    with pytest.raises(DataError, match="class 'c' is empty: no images"):
        load(task("image-classification", format="image-folder", path=path))
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="no folders in it; expected one for each class"):
        load(task("image-classification", format="image-folder", path=str(tmp_path / "e")))
    with pytest.raises(UsageError, match="it is a file; expected a directory"):
        load(task("image-classification", format="image-folder", path=str(tmp_path / "d" / "c" / "notes.txt")))


def test_directory_that_cannot_be_read(tmp_path, monkeypatch):
    path = write_images(tmp_path / "d", ["a", "b"], 4)
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="d/b: cannot be read: Permission denied"):
        load(task("image-classification", format="image-folder", path=path))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    path = write_images(tmp_path / "d", ["a", "b"], 4)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"sanderling\[image\]"):
        load(task("image-classification", format="image-folder", path=path))


def test_folders_of_parts_are_put_together(tmp_path):
    write_images(tmp_path / "d" / "train", ["good"], 40)
    write_images(tmp_path / "d" / "test", ["good", "hole"], 20, seed=1)
    write_images(tmp_path / "d" / "ground_truth", ["hole"], 20, seed=2)
    loaded = load(task("image-anomaly", format="image-folder", path=str(tmp_path / "d")))
    assert loaded.data.labels == ("good", "hole")
    assert np.bincount(loaded.data.y).tolist() == [60, 20]
    assert "were put together" in said(loaded, "parts")[0]


def test_anomalies_are_in_the_test_part_only(tmp_path):
    path = write_images(tmp_path / "d", ["good"], 300)
    write_images(tmp_path / "d", ["scratch"], 20, seed=1)
    splits = load_splits(task("image-anomaly", format="image-folder", path=path))
    assert splits.train.labels == ("normal", "scratch")
    assert not splits.train.y.any()
    assert not splits.validation.y.any()
    assert not splits.reference.y.any()
    assert splits.test.y.sum() == 20
    assert (splits.test.y == 0).sum() == 60
    assert len(join(list(splits.parts().values()))) == 320


def test_nobody_says_which_images_are_normal(tmp_path):
    path = write_images(tmp_path / "d", ["fine", "scratch", "dent"], 100)
    with pytest.raises(
        DataError, match=r"which class is the normal one. Name it in data.target; there are 'dent', 'fine'"
    ):
        load_splits(task("image-anomaly", format="image-folder", path=path))
    with pytest.raises(DataError, match=r"no class 'good' \(data.target, the normal one\)"):
        load_splits(task("image-anomaly", format="image-folder", path=path, target="good"))
    splits = load_splits(task("image-anomaly", format="image-folder", path=path, target="fine", reference_share=0.55))
    assert splits.test.labels == ("normal", "anomaly")


def test_anomalies_of_an_npz_file(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (320, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=(np.arange(320) % 16 == 0).astype(int))
    splits = load_splits(task("image-anomaly", format="npz", path=str(tmp_path / "d.npz")))
    assert splits.test.labels == ("normal", "anomaly")
    assert splits.test.y.sum() == 20


def test_sounds_of_a_folder_for_each_class_by_speaker(tmp_path):
    path = write_sounds(tmp_path / "d", ["go", "stop"], 120)
    splits = load_splits(task("audio-classification", format="audio-folder", path=path, group="prefix"))
    assert splits.train.rate == 8000
    assert splits.train.x.shape[1:] == (400,)
    assert splits.train.x.dtype == np.int16
    seen = [set(part.groups.tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == 30


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width_come_out_alike(tmp_path, width):
    wave = np.sin(np.arange(400) / 9) * 0.7
    for name in ("a", "b"):
        write_wav(tmp_path / "d" / name / "x.wav", wave, width=width)
    x = load(task("audio-classification", format="audio-folder", path=str(tmp_path / "d"))).data.x
    assert np.abs(x[0] - wave * 32768).max() <= (130 if width == 1 else 1)


def test_channels_are_averaged(tmp_path):
    both = np.stack([np.full(400, 0.5), np.full(400, -0.25)], axis=1)
    for name in ("a", "b"):
        write_wav(tmp_path / "d" / name / "x.wav", both, channels=2)
    x = load(task("audio-classification", format="audio-folder", path=str(tmp_path / "d"))).data.x
    assert set(x.ravel().tolist()) == {4096}


def test_other_rates_and_lengths_are_brought_together_and_named(tmp_path):
    path = write_sounds(tmp_path / "d", ["a", "b"], 20)
    write_wav(tmp_path / "d" / "a" / "fast.wav", np.sin(np.arange(800) / 20), rate=16000)
    write_wav(tmp_path / "d" / "a" / "short.wav", np.full(100, 0.5))
    write_wav(tmp_path / "d" / "b" / "long.wav", np.full(900, 0.5))
    loaded = load(task("audio-classification", format="audio-folder", path=path))
    assert loaded.data.x.shape == (43, 400)
    assert said(loaded, "sample rates") == ["1 of 43 sounds have another sample rate (16000 Hz): resampled to 8000 Hz"]
    assert (
        "1 of 43 sounds are shorter than 0.05 s and filled up with silence, 1 are longer and cut"
        in said(loaded, "lengths")[0]
    )
    fast = loaded.data.x[0]
    assert np.abs(fast[50:350] - np.sin(np.arange(400) / 10)[50:350] * 32768).max() < 400
    assert not loaded.data.x[1, 100:].any()
    loaded = load(task("audio-classification", format="audio-folder", path=path, sample_rate=4000, seconds=0.1))
    assert loaded.data.x.shape == (43, 400)
    assert loaded.data.rate == 4000


def test_corrupt_sounds_are_skipped_and_named_until_they_are_many(tmp_path):
    path = write_sounds(tmp_path / "d", ["a", "b"], 20)
    whole = (tmp_path / "d" / "a" / "speaker0_0.wav").read_bytes()
    (tmp_path / "d" / "a" / "cut.wav").write_bytes(whole[:200])
    (tmp_path / "d" / "b" / "empty.wav").touch()
    loaded = load(task("audio-classification", format="audio-folder", path=path))
    assert len(loaded.data) == 40
    assert "cut.wav: cut short" in said(loaded, "unreadable")[0]
    for i in range(9):
        (tmp_path / "d" / "b" / f"none{i}.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"WAV files cannot be read, more than 10%"):
        load(task("audio-classification", format="audio-folder", path=path))


def test_only_unreadable_sounds(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "x.wav").write_bytes(b"none")
    with pytest.raises(DataError, match=r"2 of 2 WAV files cannot be read"):
        load(task("audio-classification", format="audio-folder", path=str(tmp_path / "d")))


def test_sample_rate_that_no_sound_has(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.sample_rate: expected 1000 to 400000 Hz"):
        load_splits(task("audio-classification", format="audio-folder", path=str(tmp_path), sample_rate=1))


def test_background_noise_is_no_class(tmp_path):
    path = write_sounds(tmp_path / "d", ["a", "b", "_background_noise_"], 4)
    loaded = load(task("audio-classification", format="audio-folder", path=path))
    assert loaded.data.labels == ("a", "b")
    assert "_background_noise_" in said(loaded, "unused files")[0]


def test_odd_rates_keep_the_pitch():
    old, new = 44100, 15999
    tone = np.sin(2 * np.pi * 440 * np.arange(old) / old)
    found = resample(tone, old, new)
    assert abs(len(found) - new) <= 2
    assert np.abs(found[200:-200] - np.sin(2 * np.pi * 440 * np.arange(len(found)) / new)[200:-200]).max() < 0.01
    assert to_int16(np.array([2.0]))[0] == 32767


def test_features_of_an_npz_file_keep_their_shape(tmp_path):
    x = np.random.default_rng(0).integers(-128, 128, (300, 20), dtype=np.int8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(300) % 3, labels=np.array(["a", "b", "c"]))
    splits = load_splits(task("audio-classification", format="npz", path=str(tmp_path / "d.npz"), shape=(5, 4)))
    assert splits.train.x.shape[1:] == (5, 4)
    assert splits.train.labels == ("a", "b", "c")
    with pytest.raises(DataError, match=r"cannot be brought to data.shape"):
        load(task("audio-classification", format="npz", path=str(tmp_path / "d.npz"), shape=(3, 4)))
