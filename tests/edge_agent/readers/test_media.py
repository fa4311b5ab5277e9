"""Images and sound against what Pillow, the wave module and scipy wrote."""

import struct
import sys
import wave

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from edge_agent.readers import ReadOptions, open_reader
from shared.errors import InputError, MissingExtraError, UsageError
from shared.manifest import SampleSpec

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (4, 6), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)


def read(path, shape, dtype="uint8", *, size=100, **options):
    return list(open_reader(path, (SampleSpec(dtype, shape),), ReadOptions(**options)).read(size))


def one(path, *args, **options):
    (chunk,) = read(path, *args, **options)
    assert not chunk.bad, chunk.bad[0].text
    return chunk.samples[0]


def bad(path, *args, **options):
    (chunk,) = read(path, *args, **options)
    assert chunk.samples is None
    return chunk.bad[0].text


def test_a_folder_is_read_with_its_sub_folders_in_the_order_of_paths(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    images = RANDOM.integers(0, 256, (4, 4, 6), dtype=np.uint8)
    for name, image in zip(["b/1.png", "a.bmp", "b/0.PNG", ".hidden/x.png"], images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    (first, second) = read(tmp_path, (4, 6), size=2)
    assert first.ids + second.ids == ["a.bmp", "b/0.PNG", "b/1.png"]
    np.testing.assert_array_equal(np.concatenate([first.samples, second.samples]), images[[1, 2, 0]])


def test_colour_becomes_grey_and_grey_becomes_colour_as_pillow_does_it(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(one(tmp_path / "rgb.png", (4, 6)), np.asarray(Image.fromarray(RGB).convert("L")))
    np.testing.assert_array_equal(one(tmp_path / "grey.png", (4, 6, 3)), np.repeat(GREY[..., None], 3, axis=2))
    np.testing.assert_array_equal(one(tmp_path / "grey.png", (4, 6, 1)), GREY[..., None])
    np.testing.assert_array_equal(one(tmp_path / "rgb.png", (3, 4, 6)), RGB.transpose(2, 0, 1))
    np.testing.assert_array_equal(one(tmp_path / "rgb.png", (4, 6, 4))[..., 3], np.full((4, 6), 255))


def test_palettes_and_transparency_are_looked_up(tmp_path):
    Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(one(tmp_path / "p.png", (4, 6, 3)), expected)


def test_sixteen_bits_are_kept_or_refused_but_never_cut(tmp_path):
    deep = (GREY.astype(np.uint16) * 257) ^ 3
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(one(tmp_path / "deep.png", (4, 6), "uint16"), deep)
    assert "has more than 8 bits a pixel" in bad(tmp_path / "deep.png", (4, 6))


def test_floating_point_images_need_to_know_what_white_is(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="--pixels 255 or --pixels 1"):
        read(tmp_path / "x.png", (4, 6), "float32")
    np.testing.assert_allclose(one(tmp_path / "x.png", (4, 6), "float32", pixels=1.0), GREY / 255, rtol=1e-6)
    np.testing.assert_array_equal(one(tmp_path / "x.png", (4, 6), "float32", pixels=255.0), GREY)


def test_another_size_is_an_error_unless_the_model_takes_any_or_it_is_resized(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "b.png")
    assert "is 5 x 5 (H x W), but the model takes (4, 6); --resize makes it fit" in bad(tmp_path / "b.png", (4, 6))
    (both,) = read(tmp_path, (4, 6))
    assert [row.position for row in both.bad] == [1]
    first, second = read(tmp_path, (-1, -1))
    assert (first.samples.shape, second.samples.shape) == ((1, 4, 6), (1, 5, 5))
    assert (first.start, second.start) == (0, 1)
    expected = np.asarray(Image.fromarray(GREY).resize((3, 2), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(one(tmp_path / "a.png", (2, 3), resize=True), expected)


def test_files_that_are_no_images_are_bad_rows(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    assert bad(tmp_path / "x.png", (4, 6)) == f"{tmp_path / 'x.png'}: no image that can be read"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:-30])
    assert "x.png: " in bad(tmp_path / "x.png", (64, 64))


def test_a_model_that_takes_no_images(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    for spec in (SampleSpec("uint8", (7,)), SampleSpec("str", (4, 6)), SampleSpec("uint8", (5, 4, 6))):
        with pytest.raises(InputError, match="an image, but the model takes"):
            open_reader(tmp_path / "x.png", (spec,))


def test_pillow_is_named_when_it_is_missing(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sanderling\[image\]'"):
        read(tmp_path / "x.png", (4, 6))


def save_pcm(path, frames, width, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setparams((frames.shape[1], width, rate, 0, "NONE", ""))
        data = frames.astype("<i4").tobytes() if width > 1 else (frames + 128).astype(np.uint8).tobytes()
        if width in {2, 3}:
            data = b"".join(data[i : i + width] for i in range(0, len(data), 4))
        file.writeframes(data)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_every_width(tmp_path, width):
    top = 1 << (8 * width - 1)
    frames = RANDOM.integers(-top, top, (50, 2))
    save_pcm(tmp_path / "x.wav", frames, width)
    kept = one(tmp_path / "x.wav", (50, 2), "float64")
    np.testing.assert_array_equal(kept, frames / top)
    np.testing.assert_array_equal(one(tmp_path / "x.wav", (2, 50), "float64"), frames.T / top)
    np.testing.assert_allclose(one(tmp_path / "x.wav", (50,), "float32"), frames.mean(axis=1) / top, atol=1e-7)
    if width in {2, 4}:
        np.testing.assert_array_equal(one(tmp_path / "x.wav", (50, 2), f"int{8 * width}"), frames)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "uint8"])
def test_what_scipy_writes(tmp_path, dtype):
    values = RANDOM.uniform(-1, 1, (40, 2))
    stored = values if dtype.startswith("f") else RANDOM.integers(0, 100, (40, 2))
    wavfile.write(tmp_path / "x.wav", 8000, stored.astype(dtype))
    scale = {"int16": 32768, "int32": 1 << 31, "uint8": 128}.get(dtype, 1)
    expected = (stored.astype(dtype).astype(np.float64) - (128 if dtype == "uint8" else 0)) / scale
    np.testing.assert_allclose(one(tmp_path / "x.wav", (40, 2), "float64"), expected, rtol=1e-7)


def test_a_long_file_is_cut_and_its_end_filled_with_silence(tmp_path):
    frames = np.arange(1, 24)[:, None]
    save_pcm(tmp_path / "a.wav", frames, 2)
    save_pcm(tmp_path / "b.wav", frames[:5], 2)
    first, second = read(tmp_path, (10,), "int16", size=3)
    assert first.ids + second.ids == ["a.wav#0", "a.wav#1", "a.wav#2", "b.wav#0"]
    expected = np.zeros((4, 10), np.int16)
    expected[:3].reshape(-1)[:23] = frames[:, 0]
    expected[3, :5] = frames[:5, 0]
    np.testing.assert_array_equal(np.concatenate([first.samples, second.samples]), expected)


def test_a_free_length_takes_whole_files(tmp_path):
    save_pcm(tmp_path / "a.wav", np.arange(7)[:, None], 2)
    save_pcm(tmp_path / "b.wav", np.arange(9)[:, None], 2)
    assert [chunk.samples.shape for chunk in read(tmp_path, (-1,), "int16")] == [(1, 7), (1, 9)]


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "text"),
    [
        ((10,), "float32", {"rate": 8000}, "has 16000 Hz, but the model takes 8000 Hz"),
        ((10, 3), "float32", {}, "has 2 channels, but the model takes 3"),
        ((10,), "int32", {}, "has 16 bit PCM, but the model takes int32"),
    ],
)
def test_sound_that_does_not_fit_is_named(tmp_path, shape, dtype, options, text):
    save_pcm(tmp_path / "x.wav", np.zeros((20, 2), int), 2)
    assert bad(tmp_path / "x.wav", shape, dtype, **options) == f"{tmp_path / 'x.wav'}: {text}"


def test_broken_files_are_bad_rows(tmp_path):
    path = tmp_path / "x.wav"
    save_pcm(path, np.ones((20, 1), int), 2)
    whole = path.read_bytes()
    for data, text in [
        (b"", "no WAV file"),
        (whole[:30], "its header is cut short"),
        (whole[:38], "has no sound in it"),
        (whole[:-3], "cut short: 37 bytes of sound, its header says 40"),
        (whole[:20] + struct.pack("<H", 85) + whole[22:], "format 85 with 16 bits and 1 channels is not read"),
        (whole[:22] + struct.pack("<H", 0) + whole[24:], "0 channels is not read"),
        (whole[:40] + struct.pack("<I", 0), "has no sound in it"),
    ]:
        path.write_bytes(data)
        assert text in bad(path, (10,), "float32")


def test_a_model_that_takes_no_sound(tmp_path):
    save_pcm(tmp_path / "x.wav", np.ones((20, 1), int), 2)
    for spec in (SampleSpec("uint8", (28, 28)), SampleSpec("str", ()), SampleSpec("float32", (2, 3, 4))):
        with pytest.raises(InputError, match="sound, but the model takes"):
            open_reader(tmp_path / "x.wav", (spec,))
