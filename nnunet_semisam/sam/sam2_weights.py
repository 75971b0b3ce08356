"""Load SAM 2, from Meta's files and from folders of Hugging Face's transformers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.regular_files import check_regular_file
from nnunet_semisam.io.tensor_files import check_finite
from nnunet_semisam.sam import BackendOptions, named
from nnunet_semisam.sam.checkpoints import digest, find_weights, how_to_get, load_weights
from nnunet_semisam.sam.detect import FILE_IN_FOLDER
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.sam2 import Sam2Backend, Sam2ImageBackend
from nnunet_semisam.sam.sam2_keys import from_meta
from nnunet_semisam.sam.sam2_networks import transformers_library

CONFIG = "config.json"
# model_type in config.json -> classes of configuration and network
KINDS = {"sam2_video": ("Sam2VideoConfig", "Sam2VideoModel"), "sam2": ("Sam2Config", "Sam2Model")}
ENCODER = "sam2_hiera_det_model"
ADAPTER = "adapter_config.json"
FOREIGN = {
    "transformers_weights",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "quantization_config",
    "auto_map",
    "per_layer_config",
}  # entries of config.json
MOST_IN_CONFIG = 8192  # largest number in a config.json: sides of images, widths of layers


def load(family: Family, options: BackendOptions) -> Sam2ImageBackend:
    """Return a SAM 2 with its weights; see ``build_backend``.

    A file must be of the row's size. A folder describes its network itself, so that one that was made smaller, or
    trained at another side, loads under any of the rows.
    """
    path = find_weights(family.name, options.checkpoint)
    preprocessing = family.preprocessing
    if path.is_dir():
        model, weights = load_folder(path, family.name)
        preprocessing = replace(preprocessing, side=int(model.prompt_encoder.input_image_size))
    else:
        model = named(family.network)()
        weights = load_weights(model, path, family.name, from_meta)
    kind = Sam2Backend if hasattr(model, "memory_attention") else Sam2ImageBackend
    return kind(
        model,
        options.device,
        preprocessing,
        weights,
        batch_size=options.batch_size,
        cpu_bfloat16=options.cpu_bfloat16,
        prompt_kinds=frozenset(family.prompts),
        lora_targets=family.lora_targets,
    )


def load_folder(folder: Path, name: str) -> tuple[nn.Module, str]:
    """Return the network in a folder of transformers, and the digest of its weights. Nothing is fetched.

    Args:
        folder: Has ``config.json`` and ``model.safetensors``.
        name: What the model is called, for messages.

    Raises:
        UserError: If a file is missing or damaged, the folder is of another network, a weight is missing, unknown or
            of another shape, or is NaN.
    """
    remedy = f"Save the folder again with save_pretrained. {how_to_get(name)}"
    check_regular_file(folder / FILE_IN_FOLDER, remedy)
    model_class, config = _network(folder / CONFIG, remedy)
    try:
        with _no_progress_bar():
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # the library raises whatever the files make it raise
        reason = printable(str(error) or type(error).__name__, 300)
        raise UserError(f"{folder} cannot be loaded as {model_class.__name__} ({reason}). {remedy}") from error
    problems = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    problems += [f"{key} is unknown" for key in sorted(report["unexpected_keys"])]
    problems += [f"{key[0]} has another shape" for key in sorted(report["mismatched_keys"])]
    if problems:
        raise UserError(
            f"{folder / FILE_IN_FOLDER} does not hold the weights that {CONFIG} beside it describes: "
            f"{name_some(problems, 3)}. {remedy}"
        )
    state = model.state_dict()
    check_finite(state, folder / FILE_IN_FOLDER, remedy)
    return model.eval(), digest(state)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep the library's progress bar, of a second at most, out of training logs."""
    logging = transformers_library().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _refuse_what_leads_elsewhere(content: Any, path: Path, remedy: str) -> None:
    """Refuse what makes transformers read other files, fetch code, or build what no memory holds."""
    beside = path.with_name(ADAPTER)
    if os.path.lexists(beside):
        raise UserError(
            f"{beside} would change the weights: transformers adds adapters in silence. Remove it. {remedy}"
        )
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            found = sorted(FOREIGN & {name for name, entry in value.items() if entry is not None})
            if found:
                raise UserError(f"{path}: {found[0]} leads beyond this folder. Remove the entry. {remedy}")
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int) and abs(value) > MOST_IN_CONFIG:
            raise UserError(f"{path} holds the number {shown(value)}; no SAM 2 is of that size. {remedy}")


def _network(path: Path, remedy: str) -> tuple[type, Any]:
    """Return the class of the network that a ``config.json`` describes, and its configuration."""
    content = read_object(path, remedy)
    _refuse_what_leads_elsewhere(content, path, remedy)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{path} describes a model of type {shown(kind)}; a SAM 2 is {' or '.join(KINDS)}. {remedy}")
    library = transformers_library()
    config_class, model_class = (getattr(library, each) for each in KINDS[kind])
    try:
        config = config_class.from_dict(content)
        encoder = config.vision_config.backbone_config.model_type
    except Exception as error:  # the library raises whatever the values make it raise
        reason = printable(str(error) or type(error).__name__, 300)
        raise UserError(f"{path} describes no network ({reason}). {remedy}") from error
    if encoder != ENCODER:
        raise UserError(f"{path} describes an image encoder {shown(encoder)}; SAM 2 has {ENCODER}. {remedy}")
    return model_class, config
