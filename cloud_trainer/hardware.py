"""Classes of devices in plain figures, and what follows from them: latency, throughput, energy, time to train.

Rates are *sustained*: what a good runtime gets out of dense layers, not what the maker prints. A figure is followed by
where it comes from; ``estimate`` means that nobody measured it for this table. Treat those as right within a factor of
two, and measure (``edge-agent bench``) before you buy a hundred. Prices are rough orders, in US dollars, of 2025.

Measured here, on one core of a 2-core Zen 4 virtual machine (AVX-512 with VNNI), ONNX Runtime 1.32 and torch 2.13:

- 3 x 3 convolutions of 16 to 128 channels: fp32 53 to 58 GMAC/s, int8 107 to 219; of 8 channels 16 and 14
- MobileNetV2 (300 MMAC, depthwise layers): fp32 12.4, int8 37.7, hence ``separable``
- training a small ResNet at batch 128 (three times the forward MACs): 31 to 47 GMAC/s from 16 channels on, 16 with 8
- a step of a table's MLP, which hardly computes anything: 0.5 ms; reading memory: 25 GB/s

No Raspberry Pi and no GPU was at hand: their rates are published ones or estimates.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from shared.errors import UsageError

Precision = Literal["fp32", "fp16", "int8"]
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}
"""Of a weight."""

CORE_SHARE = 0.8  # what each core after the first adds: estimate, from 2.4x to 3.4x on 4 cores in published figures
P99_OVER_MEDIAN = 1.5  # on a device that does little else; estimate (an idle virtual machine: 1.2 to 4)
TRAINING_SHARE = 0.7  # of the inference rate that a CPU keeps in training: measured 31-47 of 57 GMAC/s
DATA_CENTRE = 1.2  # power drawn over power of the servers (PUE): large operators report 1.1 to 1.2, the average is 1.56
LIFE_YEARS = 5  # over which a device that is bought is paid off
HOURS_A_YEAR = 8766


class Device(Struct, frozen=True):
    """One class of devices.

    ``fp32``, ``fp16``, ``int8``: GMAC/s of one core, or of the whole GPU in large matrix products. ``small``: share of
    it that convolutional networks reach on a GPU; ``separable``: share of their rate that depthwise layers reach (the
    Pis' rates are of such a network). ``overhead_ms`` of one answer, whatever its size; ``step_ms`` of one training
    step. ``linked``: how many can hold one model together. Watts are those of the whole device, for GPUs with
    their share of the server. ``price`` to buy or ``hourly`` to rent, in US dollars.
    """

    name: str
    text: str
    where: Literal["edge", "desk", "cloud"]
    gpu: bool
    cores: int
    memory_gb: float
    bandwidth_gbs: float
    cache_mib: float
    fp32: float
    fp16: float
    int8: float
    overhead_ms: float
    step_ms: float
    idle_w: float
    load_w: float
    price: float = 0.0
    hourly: float = 0.0
    small: float = 1.0
    separable: float = 1.0
    linked: int = 1
    trains: bool = True
    source: str = ""

    @property
    def word(self) -> str:
        """``CPU`` or ``GPU``."""
        return "GPU" if self.gpu else "CPU"

    @property
    def overhead_of_site(self) -> float:
        """Power at the meter over power of the device."""
        return DATA_CENTRE if self.where == "cloud" else 1.0


DEVICES: tuple[Device, ...] = (
    Device(
        name="raspberry-pi-zero-2w", text="Raspberry Pi Zero 2 W, 4 x Cortex-A53, 1 GHz", where="edge", gpu=False,
        cores=4,
        memory_gb=0.35,  # of 0.5, the system has the rest
        bandwidth_gbs=1.5,  # estimate: LPDDR2
        cache_mib=0.5,
        # XNNPACK's README: MobileNet v1 (569 MMAC) on a Pi 3+, the same core at 1.4 GHz: 114 ms fp32, 46 ms int8
        fp32=1.0, fp16=1.0, int8=2.6,
        overhead_ms=0.2,  # estimate: 15 times the x86 core
        step_ms=10.0,  # estimate
        idle_w=0.6,  # cnx-software.com 2021: 120 mA at 5 V
        load_w=2.0,  # estimate, from 270 mA above a Zero W under load (andrejacobs.org 2021)
        price=15.0, trains=False, source="published",
    ),
    Device(
        name="raspberry-pi-4", text="Raspberry Pi 4, 4 x Cortex-A72, 1.5 GHz", where="edge", gpu=False, cores=4,
        memory_gb=3.5, bandwidth_gbs=4.0,  # estimate: LPDDR4, one reader
        cache_mib=1.0,
        # XNNPACK's README, 64-bit, 4 threads: MobileNet v1 in 77 ms fp32 and 24 ms int8
        fp32=2.2, fp16=2.2, int8=7.0,
        overhead_ms=0.1,  # estimate
        step_ms=5.0,  # estimate
        idle_w=2.7, load_w=6.4,  # widely published USB-meter figures
        price=55.0, trains=False, source="published",
    ),
    Device(
        name="raspberry-pi-5", text="Raspberry Pi 5, 4 x Cortex-A76, 2.4 GHz", where="edge", gpu=False, cores=4,
        memory_gb=7.5, bandwidth_gbs=10.0,  # estimate: of 17 in LPDDR4X-4267, 32 bit
        cache_mib=2.0,
        # estimate: Pi 4 x 1.6 (clock) x 2 (two 128-bit units), int8 by its dot-product instruction
        fp32=6.5, fp16=6.5, int8=22.0,
        overhead_ms=0.04, step_ms=2.0,  # estimates
        idle_w=3.0, load_w=8.0,  # widely published USB-meter figures
        price=80.0, trains=False, source="estimate",
    ),
    Device(
        name="x86-edge", text="gateway or mini PC, Intel N100, 4 cores", where="edge", gpu=False, cores=4,
        memory_gb=15.0, bandwidth_gbs=25.0,  # of 38, one channel of DDR5-4800
        cache_mib=6.0,
        # estimate: AVX2 on two 128-bit units at 3 GHz, half of its peak; int8 by AVX-VNNI
        fp32=14.0, fp16=14.0, int8=45.0,
        overhead_ms=0.03, step_ms=1.0,  # estimates
        idle_w=7.0, load_w=22.0,  # estimate; reviews at the wall: 5 to 10 idle, 20 to 30 in load
        price=180.0, separable=0.5,  # estimate
         source="estimate",
    ),
    Device(
        name="jetson-orin-nano", text="NVIDIA Jetson Orin Nano 8 GB", where="edge", gpu=True, cores=6,
        memory_gb=7.0, bandwidth_gbs=50.0,  # of 68, data sheet
        cache_mib=2.0,
        # data sheet: 40 sparse INT8 TOPS, so 10 dense TMAC/s; a third of it sustained: estimate
        fp32=350.0, fp16=1500.0, int8=3000.0,
        overhead_ms=0.5, step_ms=8.0,  # estimates
        idle_w=5.0, load_w=15.0,  # data sheet's power modes
        price=250.0, small=0.5, separable=0.5, trains=False, source="data sheet",
    ),
    Device(
        name="desktop-cpu", text="laptop or desktop, 8 cores with AVX2", where="desk", gpu=False, cores=8,
        memory_gb=28.0, bandwidth_gbs=50.0,  # of 77, two channels of DDR5-4800
        cache_mib=16.0,
        # estimate: half of 64 GMAC/s peak at 4 GHz
        fp32=32.0, fp16=32.0, int8=90.0,
        overhead_ms=0.015, step_ms=0.5,  # as measured on Zen 4
        idle_w=15.0, load_w=90.0,  # estimate, without screen
        price=900.0, separable=0.4,  # estimate
         source="estimate",
    ),
    Device(
        name="cloud-cpu-small", text="2 virtual cores with AVX-512 VNNI", where="cloud", gpu=False, cores=2,
        memory_gb=7.5, bandwidth_gbs=25.0,  # measured on one core
        cache_mib=16.0,
        fp32=45.0, fp16=45.0, int8=130.0,  # measured 53-58 and 107-219 in convolutions; small layers pull it down
        overhead_ms=0.012,  # measured: docs/benchmarks/runtime.md
        step_ms=0.5,  # measured
        idle_w=4.0, load_w=12.0,  # estimate: 360 W of a 96-core server, by cores, with its memory and fans
        hourly=0.10, separable=0.29, source="measured",
    ),
    Device(
        name="cloud-cpu", text="16 virtual cores with AVX-512 VNNI", where="cloud", gpu=False, cores=16,
        memory_gb=60.0, bandwidth_gbs=80.0,  # estimate
        cache_mib=32.0,
        fp32=45.0, fp16=45.0, int8=130.0,  # as above, by core
        overhead_ms=0.012, step_ms=0.5,
        idle_w=30.0, load_w=95.0,  # estimate, as above
        hourly=0.80, separable=0.29, source="measured by core",
    ),
    Device(
        name="t4", text="cloud GPU, NVIDIA T4 16 GB", where="cloud", gpu=True, cores=4,
        memory_gb=15.0, bandwidth_gbs=240.0,  # of 320, data sheet
        cache_mib=4.0,
        # data sheet: 8.1, 65 TFLOP/s, 130 TOPS = 4, 32, 65 TMAC/s; it throttles at 70 W: a third of it sustained
        fp32=2500.0, fp16=10000.0, int8=18000.0,
        overhead_ms=0.3, step_ms=4.0,  # estimates: launches of some 60 kernels, and their gradients
        idle_w=70.0, load_w=160.0,  # 70 W card and its share of the server: estimate
        hourly=0.53, small=0.45, separable=0.5, source="data sheet",
    ),
    Device(
        name="l4", text="cloud GPU, NVIDIA L4 24 GB", where="cloud", gpu=True, cores=4,
        memory_gb=22.0, bandwidth_gbs=240.0,  # of 300, data sheet
        cache_mib=48.0,
        # data sheet: 30 fp32 TFLOP/s, 121 dense bf16, 242 dense INT8 TOPS = 15, 60, 121 TMAC/s; 40 % sustained
        fp32=7500.0, fp16=24000.0, int8=45000.0,
        overhead_ms=0.3, step_ms=4.0,
        idle_w=70.0, load_w=160.0,  # 72 W card and its share of the server: estimate
        hourly=0.80, small=0.45, separable=0.5, source="data sheet",
    ),
    Device(
        name="a100", text="NVIDIA A100 80 GB", where="cloud", gpu=True, cores=12,
        memory_gb=76.0, bandwidth_gbs=1600.0,  # of 2,039, data sheet
        cache_mib=40.0,
        # data sheet: 19.5, 312 TFLOP/s, 624 TOPS. Training transformers: 45 % of bf16 (Narayanan et al. 2021,
        # arXiv 2104.04473); ResNet-50: 2,500 images/s of 12.3 GMAC (NVIDIA's examples), hence ``small``
        fp32=7000.0, fp16=70000.0, int8=120000.0,
        overhead_ms=0.3, step_ms=3.0,
        idle_w=200.0, load_w=700.0,  # DGX A100: 6.5 kW at most for 8
        hourly=3.0, small=0.45, separable=0.5, linked=64, source="data sheet",
    ),
    Device(
        name="h100", text="NVIDIA H100 80 GB", where="cloud", gpu=True, cores=16,
        memory_gb=76.0, bandwidth_gbs=2600.0,  # of 3,350, data sheet
        cache_mib=50.0,
        # data sheet: 67, 989 TFLOP/s, 1,979 TOPS. Training Llama 3: 38 to 43 % of bf16 (arXiv 2407.21783)
        fp32=20000.0, fp16=200000.0, int8=350000.0,
        overhead_ms=0.3, step_ms=3.0,
        idle_w=300.0, load_w=1150.0,  # DGX H100: 10.2 kW at most for 8
        hourly=4.0, small=0.3, separable=0.5, linked=1024, source="data sheet",
    ),
    Device(
        name="h200", text="NVIDIA H200 141 GB", where="cloud", gpu=True, cores=16,
        memory_gb=134.0, bandwidth_gbs=3800.0,  # of 4,800, data sheet
        cache_mib=50.0,
        fp32=20000.0, fp16=200000.0, int8=350000.0,  # the H100's
        overhead_ms=0.3, step_ms=3.0,
        idle_w=300.0, load_w=1150.0,
        hourly=5.0, small=0.3, separable=0.5, linked=1024, source="data sheet",
    ),
)  # fmt: skip


def device(name: str) -> Device:
    """The class called ``name``.

    Raises:
        UsageError: there is none; the message lists them.
    """
    for one in DEVICES:
        if one.name == name:
            return one
    raise UsageError(f"no device class {name!r}; there are " + ", ".join(one.name for one in DEVICES))


def speedup(threads: int) -> float:
    """How much faster ``threads`` cores are than one.

    >>> speedup(1), round(speedup(4), 1)
    (1.0, 3.4)
    """
    return 1 + CORE_SHARE * (threads - 1)


def rate(one: Device, precision: Precision = "fp32", threads: int = 1, *, large: bool = False) -> float:
    """Sustained MAC/s in inference; ``large``: matrix products of a transformer that fill a GPU.

    >>> f"{rate(device('raspberry-pi-4'), 'int8', 4):.3g}"
    '2.38e+10'
    """
    gmacs: float = getattr(one, precision)
    if one.gpu:
        return gmacs * 1e9 * (1.0 if large else one.small)
    return gmacs * 1e9 * speedup(min(max(threads, 1), one.cores))


def latency_ms(macs: float, weights: float, one: Device, precision: Precision = "fp32", threads: int = 1) -> float:
    """Median milliseconds of one answer, by the roofline model (Williams et al. 2009, doi 10.1145/1498765.1498785): the
    longer of computing and of reading what the cache cannot keep, after a fixed overhead. ``weights`` in bytes.

    >>> round(latency_ms(569e6, 4.2e6, device("raspberry-pi-4"), "int8", threads=4), 1)  # MobileNet v1: 24 published
    24.0
    """
    computing = macs / rate(one, precision, threads)
    reading = max(0.0, weights - one.cache_mib * 2**20) / (one.bandwidth_gbs * 1e9)
    return one.overhead_ms + 1e3 * max(computing, reading)


def macs_within(p99_ms: float, one: Device, precision: Precision = "fp32", threads: int = 1) -> int:
    """The most MACs whose 99th percentile stays within ``p99_ms`` on ``one``; 0 where not even the overhead does.

    With ``fp32``, the default, every quantized variant keeps to it too. It assumes that weights stay in the cache, and
    dense convolutions; multiply by ``one.separable`` for depthwise ones.

    >>> macs_within(20, device("raspberry-pi-4"))
    29113333
    """
    left = p99_ms / P99_OVER_MEDIAN - one.overhead_ms
    return max(0, int(left * 1e-3 * rate(one, precision, threads)))


def answers_a_second(macs: float, weights: float, one: Device, precision: Precision = "fp32") -> float:
    """Most answers a second of a whole device: a CPU with one answer on each core, a GPU in batches that share the
    reading of the weights and the overhead (32 answers each)."""
    if one.gpu:
        together = 32
        reading = max(0.0, weights - one.cache_mib * 2**20) / (one.bandwidth_gbs * 1e9)
        return together / (one.overhead_ms * 1e-3 + max(together * macs / rate(one, precision), reading))
    return speedup(one.cores) * 1e3 / latency_ms(macs, weights, one, precision)


def energy_per_answer(macs: float, weights: float, one: Device, precision: Precision = "fp32") -> float:
    """Joules that one more answer takes: what the busy device draws above the idle one, for its share of a second.

    >>> f"{energy_per_answer(569e6, 4.2e6, device('raspberry-pi-4'), 'int8'):.2f} J"
    '0.09 J'
    """
    return (one.load_w - one.idle_w) * one.overhead_of_site / answers_a_second(macs, weights, one, precision)


def training_seconds(macs: float, steps: float, one: Device, *, large: bool = False, count: int = 1) -> float:
    """Seconds for ``macs`` in all (three times the forward MACs, times samples, times epochs) in ``steps`` updates.

    A CPU trains with all cores in float32, a GPU in bfloat16; ``count`` linked GPUs add 85 % of one each.
    """
    if one.gpu:
        speed = rate(one, "fp16", large=large) * (1 + 0.85 * (count - 1))
    else:
        speed = rate(one, "fp32", one.cores) * TRAINING_SHARE
    return macs / speed + steps * one.step_ms * 1e-3


def hourly_cost(one: Device, watts: float, price_per_kwh: float) -> float:
    """Dollars an hour: rent, which has the electricity in it; or the price over its life, and the electricity."""
    if one.hourly:
        return one.hourly
    return one.price / (LIFE_YEARS * HOURS_A_YEAR) + watts / 1000 * price_per_kwh
