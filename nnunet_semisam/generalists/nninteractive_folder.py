"""What is looked at in a model folder of nnInteractive before its package, which trusts what it finds, reads it."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.data.architecture import check_architecture
from nnunet_semisam.errors import UserError, printable, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.tensor_files import check_finite, read_tensors, types_of_training

CHECKPOINT = "checkpoint_final.pth"


def check_model_folder(folder: Path, remedy: str) -> None:
    """Refuse a folder whose plans would call anything but nnU-Net's networks, or whose weights are no numbers.

    The package builds what ``plans.json`` names with the arguments beside it: with ``torch.hub.load`` any code.

    Args:
        folder: The model folder.
        remedy: What to do, for errors.

    Raises:
        UserError: If there is not exactly one fold in it, a file is missing or damaged, or names something else.
    """
    folds = sorted(folder.glob("fold_*"))
    if len(folds) != 1 or folds[0].is_symlink():
        found = ", ".join(shown(fold.name) for fold in folds) or "none"
        raise UserError(f"{folder} must hold one folder fold_... that is no link, got {found}. {remedy}")
    file, plans_file = folds[0] / CHECKPOINT, folder / "plans.json"
    checkpoint = read_tensors(file, remedy, types_of_training())
    weights, arguments = checkpoint.get("network_weights"), checkpoint.get("init_args")
    name = arguments.get("configuration") if isinstance(arguments, dict) else None
    if not isinstance(weights, dict) or not isinstance(name, str):
        raise UserError(f"{file} is no checkpoint of nnU-Net: it lacks network_weights or init_args. {remedy}")
    check_finite(weights, file, remedy)
    plans = read_object(plans_file, remedy)
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        configuration = PlansManager(plans).get_configuration(name)
    except Exception as error:  # nnU-Net's reader raises what the values make it raise
        reason = printable((str(error).strip() or type(error).__name__).splitlines()[0], 300)
        raise UserError(f"{plans_file} has no usable configuration {shown(name)} ({reason}). {remedy}") from error
    check_architecture(configuration, plans_file, name)
