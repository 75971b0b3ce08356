"""Sentences claim no more than the numbers can."""

from nnunet_semisam.report.sections.cautions import cautions
from nnunet_semisam.report.sections.findings import findings


def test_sentences_stand_with_their_numbers_and_claim_nothing_of_four_patients(benchmark_result):
    sentences = findings(benchmark_result)
    assert len(sentences) == 4
    for text in sentences:
        assert "8 cases of 4 patients, 2 pairs of runs): no verdict" in text


def test_a_reader_is_warned(benchmark_result):
    text = " ".join(cautions(benchmark_result))
    assert "They are not corrected for their number" in text
    assert "Only 4 patients" in text
    assert "Failures count in every mean" in text
    assert "one training" not in text  # two seeds
