"""The scheduler around a real engine: the same answers as the engine's own, however they were run."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edge_agent.engine import Engine
from edge_agent.scheduler import Scheduler
from tests.releases import digits, reference_answers


def test_direct_batched_and_bulk_answers_are_those_of_the_model(release):
    x, _ = digits(200, seed=5)
    expected = reference_answers(x)["scores"]
    engine = Engine.load(release, variant="fp32-onnx")
    with Scheduler(engine) as scheduler:
        with ThreadPoolExecutor(8) as pool:
            parallel = list(pool.map(scheduler.infer, x, map(str, range(200))))
        futures = [scheduler.submit(sample) for sample in x]
        bulk = [answer for chunk in scheduler.infer_bulk(x) for answer in chunk]
        queued = [future.result(20) for future in futures]
    engine.close()
    for answers in (parallel, queued, bulk):
        np.testing.assert_allclose([answer.scores for answer in answers], expected, atol=1e-5)
    assert [answer.id for answer in parallel] == [str(i) for i in range(200)]
    assert engine.health.samples == 600
