"""ST-LPIPS behaves as a distance, and the table says what the rows say."""

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from panini.evaluation.validation import Face, Row, Scorer, Scores, table


@pytest.mark.slow
def test_stlpips_is_zero_for_equal_pictures_grows_with_damage_and_forgives_a_shift() -> None:
    scorer = Scorer()
    truth = cv2.resize(astronaut(), (128, 128), interpolation=cv2.INTER_AREA)
    blurred = [cv2.GaussianBlur(truth, (0, 0), s) for s in (1, 3)]
    same, mild, strong, shifted = scorer(truth, truth, *blurred, np.roll(truth, 1, 1))
    assert same.stlpips == pytest.approx(0, abs=1e-6)
    assert same.ssim == pytest.approx(1)
    assert 0 < mild.stlpips < strong.stlpips
    assert shifted.stlpips < mild.stlpips


def test_table_averages_by_task_and_kind() -> None:
    nothing = np.zeros((1, 1, 3), np.uint8)

    def row(kind: str, given: float, result: float) -> Row:
        face = Face("000", "mfr", kind, nothing, nothing)
        return Row(face, Scores(20, 0.5, given), Scores(22, 0.6, result), nothing)

    lines = table([row("blur", 0.4, 0.2), row("noise", 0.6, 0.3)]).splitlines()
    assert "| mfr | 2 | 20.00 -> 22.00 | 0.500 -> 0.600 | 0.500 -> 0.250 | 0.500 |" in lines
    assert any(line.startswith("| mfr: blur | 1 |") and line.endswith("| 0.500 |") for line in lines)
