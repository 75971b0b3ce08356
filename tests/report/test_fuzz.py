"""Whatever stands in the files of a benchmark, there is a page or an error that names the file; never a traceback."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invented import Shape, make_benchmark, write_round

from nnunet_semisam.benchmark.results_files import read_results
from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.report.markdown import markdown
from nnunet_semisam.report.page import render
from nnunet_semisam.report.reading import published
from nnunet_semisam.report.reading.benchmark_folder import read_benchmark
from nnunet_semisam.report.reading.sam_rounds import read_sam
from nnunet_semisam.report.reading.training_logs import read_training

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**63, 10**400, math.nan, math.inf, 1e300, -1e-300, 5e-324]),
    st.text(max_size=20),
    st.sampled_from(["../x", "/etc", "", "nan", "=1+1", "<script>", "a\nb", "\x00", "x" * 5000, "C:\\x"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A benchmark without its images: pages of it are made fast."""
    path = tmp_path_factory.mktemp("fuzz") / "benchmark"
    make_benchmark(path, Shape(patients=1, frames=1, size=(3, 24, 26), epochs=2, seeds=(0,)))
    for image in path.rglob("*.nii.gz"):
        image.unlink()
    return path


def changed(content, data):
    """Return a copy of a json content in which one value, wherever it is, is another or is gone."""
    content = copy.deepcopy(content)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 4)) == 0:
            break
        place = inner
    if data.draw(st.integers(0, 3)) == 0:
        del place[key]
    else:
        place[key] = data.draw(ODD)
    return content


@settings(QUICK, max_examples=25)
@given(data=st.data())
def test_results_with_an_odd_value_give_a_page_or_a_named_error(folder, data):
    path = folder / "results.json"
    whole = path.read_text()
    try:
        path.write_text(json.dumps(changed(json.loads(whole), data)))
        try:
            benchmark = read_benchmark(folder)
        except UserError as error:
            assert "results." in str(error)  # noqa: PT017
            assert len(str(error)) < 3000  # noqa: PT017
        else:
            assert render(benchmark).count("<script>") == 1  # the page's own
            assert markdown(benchmark)
    finally:
        path.write_text(whole)


def torn(whole, data):
    """Return bytes that were cut, or in which some are others."""
    content = bytearray(whole)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content)


@pytest.mark.parametrize("name", ["results.csv", "results.json"])
@QUICK
@given(data=st.data())
def test_torn_results_are_read_in_part_or_refused_by_name(name, folder, data):
    path = folder / name
    whole = path.read_bytes()
    try:
        path.write_bytes(torn(whole, data))
        try:
            _, rows, damaged = read_results(folder)
        except UserError as error:
            assert name in str(error)  # noqa: PT017
        else:
            assert len(rows) + len(damaged.rows) + len(damaged.entries) > 0 or name == "results.csv"
    finally:
        path.write_bytes(whole)


def finite(series):
    return all(math.isfinite(value) and epoch >= 0 for values in series.values() for epoch, value in values)


@QUICK
@given(data=st.data())
def test_logs_of_trainings_give_finite_numbers_or_a_named_problem(folder, tmp_path, data):
    (source,) = folder.glob("runs/nnUNetTrainerSemiSAM__2d__fold_0__seed_0/results/*/*/fold_0")
    for path in [*source.glob("training_log_*.txt"), source / "semisam_log.csv"]:
        (tmp_path / path.name).write_bytes(torn(path.read_bytes(), data))
    found = read_training(tmp_path)
    assert finite(found.nnunet)
    assert finite(found.terms)
    assert all(name.startswith(("training_log", "semisam_log")) for name in found.problems)


@QUICK
@given(numbers=st.lists(st.floats(), min_size=1, max_size=6), name=st.text(min_size=1, max_size=9))
def test_whatever_a_loss_is_it_can_be_drawn(numbers, name):
    from nnunet_semisam.io.typed_records import LARGEST
    from nnunet_semisam.report.sections.training import panels_of_terms

    series = [(epoch, value) for epoch, value in enumerate(numbers) if abs(value) <= LARGEST]
    assert "nan" not in "".join(panels_of_terms({name: series})).replace(name, "")


@QUICK
@given(data=st.data())
def test_records_of_rounds_are_read_in_part_and_what_is_not_is_told(tmp_path, data):
    path = tmp_path / round_log.FILE_NAME
    path.unlink(missing_ok=True)
    write_round(tmp_path, 0, 5)
    write_round(tmp_path, 1, 9)
    lines = path.read_text().splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index] = json.dumps(changed(json.loads(lines[index]), data))
    path.write_text("\n".join(lines) + "\n")
    problems = []
    found = read_sam(tmp_path, problems)
    for one in found.rounds:
        assert all(figures.agreement is None or 0 <= figures.agreement <= 1.001 for figures in one.classes)
    assert len(found.rounds) <= 3


@QUICK
@given(data=st.data())
def test_published_results_are_whole_or_refused_by_name(tmp_path_factory, data):
    whole = json.loads(published.DATA.read_text())
    path = tmp_path_factory.mktemp("published") / "published.json"
    path.write_text(json.dumps(changed(whole, data)))
    try:
        assert published.read_protocols(path)
    except UserError as error:
        assert "published.json" in str(error)  # noqa: PT017
        assert "Install nnunet-semisam again" in str(error)  # noqa: PT017
