"""What the trainings ran with is on record, and so is where they differ."""

from invented import OURS

from nnunet_semisam.report.reading import software
from nnunet_semisam.report.sections import setup


def test_software_is_shown_and_differences_are_named(changed):
    assert software.differences(changed()) == []
    assert software.common(changed())["torch"] == "2.9.0"
    assert software.common(changed())[software.WEIGHTS] == "f" * 8

    def other(content):
        content["runs"][0]["software"][0]["versions"]["torch"] = "2.8.0"
        content["runs"][1]["software"][0]["variables"] = {}
        run = next(run for run in content["runs"] if run["trainer"] == OURS)
        run["software"][0]["sam_fingerprints"] = ["e" * 8]

    benchmark = changed(other)
    told = software.differences(benchmark)
    assert len(told) == 3
    assert any("2.8.0 in nnUNetTrainerSupervised__2d__fold_0__seed_0" in text for text in told)
    assert any("$nnUNet_npp" in text and "nothing in" in text for text in told)
    assert any(software.WEIGHTS in text for text in told)
    assert "Trainings differ in torch" in setup.versions_part(benchmark)
    assert "torch" not in software.common(benchmark)


def test_without_a_record_the_versions_of_the_results_are_shown(changed):
    def forget(content):
        for run in content["runs"]:
            run["software"] = []

    benchmark = changed(forget)
    assert software.common(benchmark) == benchmark.versions
    assert "No training has recorded its software" in setup.versions_part(benchmark)
