"""Counters and percentiles."""

from edge_agent.health import KEPT, Health, rss_mib


def test_nothing_yet_is_zero():
    health = Health()
    assert health.percentiles() == (0.0, 0.0)
    assert health.accuracy is None


def test_percentiles_are_of_the_latest():
    health = Health()
    for _ in range(KEPT):
        health.add(1000.0)
    for i in range(KEPT):
        health.add(float(i))
    p50, p99 = health.percentiles()
    assert p50 == (KEPT - 1) / 2
    assert KEPT * 0.98 < p99 < KEPT
    assert health.samples == 2 * KEPT


def test_few_latencies_are_not_mixed_with_empty_places():
    health = Health()
    health.add(10.0)
    assert health.percentiles() == (10.0, 10.0)


def test_errors_keep_the_last_text():
    health = Health()
    health.fail(ValueError("first"))
    health.fail(ValueError("second"))
    assert (health.errors, health.last_error, health.samples) == (2, "second", 0)


def test_accuracy_is_of_known_truths():
    health = Health()
    for correct in (True, True, False):
        health.truth(correct=correct)
    assert health.accuracy == 2 / 3


def test_this_process_has_memory():
    assert 10 < rss_mib() < 100_000
