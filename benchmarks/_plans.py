"""Plans of four networks, in the form in which nnU-Net writes them: two small ones, and two of nnU-Net's own size."""

from __future__ import annotations

DATASET = "Dataset999_Benchmark"
BUILT_IN = {  # patch size, batch size, features per stage, size of a case
    "2d": ([192, 192], 8, [8, 16, 32, 64, 80, 80], [9, 256, 216]),
    "3d_fullres": ([64, 64, 64], 2, [8, 16, 32, 64], [96, 96, 96]),
}
# What nnU-Net 2.8.1's planner writes for ACDC in 2D, and for large isotropic volumes in 3D; 8 GB of GPU memory.
FULL = {
    "2d": ([256, 224], 56, [32, 64, 128, 256, 512, 512], [9, 256, 216]),
    "3d_fullres": ([128, 128, 128], 2, [32, 64, 128, 256, 320, 320], [138, 170, 138]),
}


def built_in_plans(configuration: str, features: list[int] | None, full: bool = False) -> dict:
    """Return plans of a small network, or of one of nnU-Net's own size (``full``), as nnU-Net writes them."""
    built_in = FULL if full else BUILT_IN
    if configuration not in built_in:
        raise SystemExit(f"The built-in plans have {', '.join(built_in)}, not {configuration!r}. Name a file: --plans.")
    patch_size, batch_size, default_features, shape = built_in[configuration]
    dims, features = len(patch_size), features or default_features
    resampling = {
        f"resampling_fn_{what}{end}": value
        for what in ("data", "seg", "probabilities")
        for end, value in (("", "resample_data_or_seg_to_shape"), ("_kwargs", {"is_seg": what == "seg", "order": 1}))
    }
    spacing = [10.0, 1.5, 1.5] if dims == 2 else [1.0, 1.0, 1.0]
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlansFull" if full else "nnUNetPlansBenchmark",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {},
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": shape,
        "configurations": {
            configuration: {
                "data_identifier": f"nnUNetPlansBenchmark_{configuration}",
                "preprocessor_name": "DefaultPreprocessor",
                "patch_size": patch_size,
                "batch_size": batch_size,
                "batch_dice": dims == 2,
                "spacing": spacing[-dims:],
                "median_image_size_in_voxels": shape[-dims:],
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "architecture": architecture(dims, features),
                **resampling,
            }
        },
    }


def architecture(dims: int, features: list[int]) -> dict:
    """Return the architecture of a plain U-Net; every stage but the first halves its input."""
    stages = len(features)
    network = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": network,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
