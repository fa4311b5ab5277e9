"""Image operations against PIL and onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from shared.pipeline.encode import Layout
from shared.pipeline.preprocess import ChannelOrder, Crop, Grayscale, Pad, Resize

SIZES = [
    ((11, 6), (17, 4)),
    ((12, 9), (3, 3)),
    ((5, 8), (20, 5)),
    ((7, 7), (7, 7)),
    ((16, 10), (5, 13)),
    ((1, 1), (3, 2)),
]


def pictures(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(height * width).random((3, height, width, *channels), dtype=np.float32)


def onnx_resize(x: np.ndarray, height: int, width: int, **attributes: str | int) -> np.ndarray:
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [len(x), 1, height, width])
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(x), 1, *x.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(x), 1, height, width])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x[:, None]})[0][:, 0]


def pil_resize(x: np.ndarray, height: int, width: int, filter_name: str) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    wanted = getattr(image.Resampling, filter_name)
    return np.stack([np.asarray(image.fromarray(one).resize((width, height), wanted)) for one in x])


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_bilinear_is_onnx_resize_with_half_pixel(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    x = pictures(*size)
    expected = onnx_resize(x, *wanted, mode="linear", coordinate_transformation_mode="half_pixel")
    np.testing.assert_allclose(Resize(*wanted)(x), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_nearest_is_pils_and_onnx_round_prefer_ceil(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    x = pictures(*size)
    found = Resize(*wanted, method="nearest")(x)
    np.testing.assert_array_equal(found, pil_resize(x, *wanted, "NEAREST"))
    expected = onnx_resize(
        x, *wanted, mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil"
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("size", "wanted"), SIZES)
@pytest.mark.parametrize(("method", "name"), [("area", "BOX"), ("antialias", "BILINEAR")])
def test_with_antialiasing_it_is_pils_resize(
    size: tuple[int, int], wanted: tuple[int, int], method: str, name: str
) -> None:
    x = pictures(*size)
    np.testing.assert_allclose(Resize(*wanted, method=method)(x), pil_resize(x, *wanted, name), atol=2e-6)


def test_antialiasing_is_onnx_resize_with_antialias() -> None:
    x = pictures(20, 30)
    expected = onnx_resize(
        x, 7, 11, mode="linear", coordinate_transformation_mode="half_pixel", antialias=1, exclude_outside=1
    )
    np.testing.assert_allclose(Resize(7, 11, method="antialias")(x), expected, atol=1e-5)


def test_area_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    x = pictures(8, 12)
    expected = x.reshape(3, 4, 2, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(Resize(4, 4, method="area")(x), expected, rtol=1e-5)


def test_bytes_are_resized_as_pil_does_within_its_rounding() -> None:
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(3).integers(0, 256, (1, 30, 20, 3)).astype(np.uint8)
    expected = np.asarray(image.fromarray(x[0]).resize((9, 13), image.Resampling.BILINEAR))
    assert np.abs(Resize(13, 9, method="antialias")(x)[0] - expected).max() < 1.01


@pytest.mark.parametrize("method", ["bilinear", "nearest", "antialias", "area"])
def test_colour_channels_are_kept_apart(method: str) -> None:
    x = pictures(6, 7, 3)
    found = Resize(4, 9, method=method)(x)
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], Resize(4, 9, method=method)(x[..., channel]), rtol=1e-5)


def test_crop_takes_the_centre_or_the_place_that_is_named() -> None:
    x = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    np.testing.assert_array_equal(Crop(3, 3)(x), x[:, 1:4, 2:5])
    np.testing.assert_array_equal(Crop(2, 3, top=0, left=4)(x), x[:, :2, 4:])
    np.testing.assert_array_equal(Crop(5, 7)(x), x)


def test_crop_and_pad_are_onnx_slices() -> None:
    x = pictures(5, 6)
    padded = Pad(2, 1, 3, 2, value=-1.0)(x)
    assert padded.shape == (3, 8, 11)
    np.testing.assert_array_equal(Crop(5, 6, top=2, left=3)(padded), x)
    assert padded.sum() == pytest.approx(x.sum() - 3 * (8 * 11 - 5 * 6), rel=1e-5)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_pad_repeats_or_mirrors_the_edge(mode: str) -> None:
    x = pictures(4, 5)
    found = Pad(2, 3, 1, 4, mode=mode)(x)
    for row in range(-2, 7):
        for column in range(-1, 9):
            if mode == "edge":
                source = min(max(row, 0), 3), min(max(column, 0), 4)
            else:
                source = abs(row) if row < 4 else 6 - row, abs(column) if column < 5 else 8 - column
            np.testing.assert_array_equal(found[:, row + 2, column + 1], x[:, source[0], source[1]])


def test_grayscale_is_pils_within_its_rounding() -> None:
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(4).integers(0, 256, (2, 9, 8, 3)).astype(np.uint8)
    expected = np.stack([np.asarray(image.fromarray(one).convert("L")) for one in x])
    assert np.abs(Grayscale()(x) - expected).max() < 0.51
    np.testing.assert_array_equal(Grayscale(order="bgr")(x[..., ::-1]), Grayscale()(x))


def test_channel_order_turns_back() -> None:
    x = pictures(3, 4, 4)
    turned = ChannelOrder()(x)
    np.testing.assert_array_equal(turned, x[..., [2, 1, 0]])
    np.testing.assert_array_equal(ChannelOrder((2, 1, 0, 3))(ChannelOrder((2, 1, 0, 3))(x)), x)


def test_layout_is_a_transpose_and_turns_back() -> None:
    x = pictures(3, 4, 5)
    turned = Layout("nchw")(x)
    assert turned.shape == (3, 5, 3, 4)
    assert turned[1, 4, 2, 3] == x[1, 2, 3, 4]
    np.testing.assert_array_equal(Layout("nhwc")(turned), x)
