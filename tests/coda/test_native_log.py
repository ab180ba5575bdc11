"""What native libraries write to standard error while a model is converted."""

from __future__ import annotations

import os
import sys

import pytest

from coda.native_log import without_news

NEWS = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "W0000 00:00:1795236341.497721     394 tf_tfl_flatbuffer_helpers.cc:365] Ignored output_format.",
    "I0000 00:00:1795236341.497721     394 mlir_graph_optimization_pass.cc:425] MLIR V1 is not enabled",
    "2026-01-31 10:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is optimized",
    "To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
]
WRONG = [
    "E0000 00:00:1795236341.497721     394 flatbuffer_export.cc:1] is not supported",
    "2026-01-31 10:00:00.123456: F tensorflow/lite/x.cc:1] check failed",
    "error: 'tf.Erfc' op is neither a custom op nor a flex op",
]


def test_news_is_dropped_and_errors_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    """Only lines that tell of something wrong are left, in their order; afterwards all is as it was."""
    with without_news():
        for line in [NEWS[0], WRONG[0], *NEWS[1:], *WRONG[1:]]:
            os.write(2, f"{line}\n".encode())
    os.write(2, b"INFO: later\n")
    assert capfd.readouterr().err.splitlines() == [*WRONG, "INFO: later"]


def test_errors_come_through_where_the_work_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """The exception goes on, and standard error is Python's own again."""
    before = sys.stderr

    @without_news()
    def fail() -> None:
        os.write(2, f"{WRONG[0]}\n".encode())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sys.stderr is before
    assert capfd.readouterr().err.splitlines() == WRONG[:1]
