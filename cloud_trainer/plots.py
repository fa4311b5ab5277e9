"""The report's pictures, as PNG bytes. Drawn without pyplot: no global state, no display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.evaluate import Bins
from cloud_trainer.fit import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
INK_LUMINANCE = 0.0212
COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c")
DPI = 130


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def png(drawn: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=MUTED, labelsize=8)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.title.set_color(INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(MUTED)
        label.set_size(9)


def training_curves(curves: Sequence[Curve]) -> bytes:
    """Loss (logarithmic) and validation accuracy by epoch, one line for each network."""
    drawn = figure(9, 3.2)
    losses, accuracies = drawn.subplots(1, 2)
    for curve, colour in zip(curves, COLOURS, strict=False):
        epochs = range(1, len(curve.loss) + 1)
        losses.plot(epochs, np.maximum(curve.loss, 1e-6), color=colour, linewidth=2, marker="o", markersize=3)
        accuracies.plot(
            epochs,
            [100 * value for value in curve.accuracy],
            color=colour,
            linewidth=2,
            marker="o",
            markersize=3,
            label=f"{curve.name}: {curve.accuracy[-1]:.1%}",
        )
    losses.set_yscale("log")
    losses.set_title("training loss", fontsize=10, loc="left")
    accuracies.set_title("validation accuracy, %", fontsize=10, loc="left")
    accuracies.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _plain(axes)
    return png(drawn)


def confusion_matrix(matrix: NDArray[np.int64], labels: Sequence[str]) -> bytes:
    """Rows are the truth, in percent of each class. Two scales: right answers are green, mistakes orange and as dark as
    the most frequent one, so that few of them are seen beside a full diagonal."""
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    side = float(np.clip(0.36 * classes + 0.8, 3.6, 9))
    drawn = figure(side, side)
    axes = drawn.subplots()
    colours = _cells(share)
    axes.imshow(colours)
    if classes <= 20:
        for row in range(classes):
            for column in range(classes):
                if matrix[row, column]:
                    right = row == column
                    axes.text(
                        column,
                        row,
                        f"{share[row, column]:.0f}" if right else f"{share[row, column]:.1f}",
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color=ink_on(colours[row, column]),
                        weight="bold" if right else "normal",
                    )
        axes.set_xticks(range(classes), labels, fontsize=8, rotation=0 if max(map(len, labels)) < 4 else 60)
        axes.set_yticks(range(classes), labels, fontsize=8)
    axes.set_xlabel("answer", color=MUTED, fontsize=9)
    axes.set_ylabel("truth", color=MUTED, fontsize=9)
    axes.tick_params(length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    return png(drawn)


def _cells(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percentages (n, n) -> colours (n, n, 3)."""
    from matplotlib import colormaps

    right = np.eye(len(share), dtype=bool)
    wrong = np.where(right, 0.0, share)
    colours = colormaps["Oranges"](wrong / max(5.0, float(wrong.max())))[..., :3]
    colours[wrong == 0] = 1.0
    colours[right] = colormaps["BuGn"](0.15 + 0.65 * np.diag(share) / 100)[:, :3]
    found: NDArray[np.float64] = colours
    return found


def ink_on(colour: NDArray[np.float64]) -> str:
    """Dark or white, whichever has more contrast on ``colour`` (red, green, blue, 0 to 1), by WCAG 2's luminance."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "#ffffff" if (luminance + 0.05) ** 2 < 1.05 * (INK_LUMINANCE + 0.05) else INK


def reliability(bins: Bins) -> bytes:
    """Accuracy against confidence: a calibrated model follows the diagonal. Each dot has its number of samples."""
    drawn = figure(3.9, 3.9)
    axes = drawn.subplots()
    start = float(np.floor(10 * min(bins.low.min(), bins.confidence.min())) / 10)
    axes.plot([start, 1], [start, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    reach = np.abs(np.stack([bins.accuracy - bins.low, bins.high - bins.accuracy]))
    axes.errorbar(
        bins.confidence, bins.accuracy, reach, color=COLOURS[0], fmt="o", markersize=5, elinewidth=1.2, capsize=2.5
    )
    for confidence, low, count in zip(bins.confidence, bins.low, bins.samples, strict=True):
        axes.annotate(
            f"{count:,}",
            (confidence, low),
            xytext=(0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7,
            color=MUTED,
        )
    edge = 0.05 * (1 - start)
    axes.set(xlim=(start - edge, 1 + edge), ylim=(start - 2 * edge, 1 + edge), xlabel="confidence", ylabel="accuracy")
    _plain(axes)
    return png(drawn)


def examples(x: NDArray[Any], captions: Sequence[tuple[str, str]], columns: int = 8) -> bytes:
    """Pictures (n, H, W[, C]) with two lines under each, e.g. what it is and what the model said."""
    rows = max(1, -(-len(x) // columns))
    drawn = figure(columns * 1.12, rows * 1.5)
    grid = np.atleast_2d(drawn.subplots(rows, columns, squeeze=False))
    low, high = float(x.min()), float(x.max())
    for axes, i in zip(grid.ravel(), range(rows * columns), strict=True):
        axes.axis("off")
        if i < len(x):
            picture = (x[i].astype(np.float64) - low) / max(high - low, 1e-12)
            grey = picture.ndim == 2 or picture.shape[2] == 1
            axes.imshow(picture.squeeze() if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=1)
            axes.set_title(captions[i][0], fontsize=8, color=INK, pad=3)
            axes.text(
                0.5,
                -0.06,
                captions[i][1],
                fontsize=7.5,
                color=COLOURS[1],
                ha="center",
                va="top",
                transform=axes.transAxes,
            )
    return png(drawn)


def histograms(values: NDArray[np.float64], names: Sequence[str], columns: int = 4) -> bytes:
    """One histogram for each column of ``values`` (n, F): the reference that devices compare with."""
    shown = min(len(names), 12)
    rows = -(-shown // columns)
    drawn = figure(9, 1.9 * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).ravel()
    for i, axes in enumerate(grid):
        if i >= shown:
            axes.axis("off")
            continue
        column = values[:, i][np.isfinite(values[:, i])]
        axes.hist(column, bins=32, color=COLOURS[0], alpha=0.85)
        axes.set_title(names[i], fontsize=9, loc="left")
        axes.set_yticks([])
        _plain(axes)
        axes.spines["left"].set_visible(False)
    return png(drawn)
