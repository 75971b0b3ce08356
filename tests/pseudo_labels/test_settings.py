"""Settings of pseudo-labels: which blocks a run uses, and what is refused."""

import subprocess
import sys

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels import session  # noqa: F401  registers all blocks of the rounds
from nnunet_semisam.settings import Settings

ROUNDS = {
    "calibration", "components", "connectivity", "fusion", "generalisation_error", "prompts", "rejection", "sam"
}  # fmt: skip
MODELS = {"nano", "vit_b", "vit_l", "vit_h"}


def test_the_blocks_of_named_models_are_used_and_no_others():
    used = set(Settings.of(use_sam=True, sam={"models": ["vit_b", "nano"]}).used_blocks())
    assert used >= ROUNDS | {"nano", "vit_b"}
    assert not used & {"vit_l", "vit_h"}
    assert not set(Settings.of(use_sam=False).used_blocks()) & (ROUNDS | MODELS)


def test_an_unknown_model_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"'vit_c'.*Did you mean 'vit_"):
        Settings.of(sam={"models": ["vit_c"]})


@pytest.mark.parametrize("models", [[], ["nano", "nano"]])
def test_models_are_named_once_each(models):
    with pytest.raises(UserError, match="each once"):
        Settings.of(sam={"models": models})


@pytest.mark.parametrize("weights", [[], [0.5, 0.25], [0.5, 0.5]])
def test_weights_to_choose_from_are_ascending(weights):
    with pytest.raises(UserError, match="ascending"):
        Settings.of(calibration={"weights": weights})


@pytest.mark.parametrize(
    ("block", "values"), [("nano", {"axis": 3}), ("sam", {"batch_size": 0}), ("fusion", {"rejected": 2})]
)
def test_values_out_of_range_are_refused(block, values):
    with pytest.raises(UserError, match=next(iter(values))):
        Settings.of(**{block: values})


def test_settings_need_the_standard_library_only():
    code = "import sys, nnunet_semisam.pseudo_labels.settings; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
