#!/usr/bin/env bash
# Train on a data set of your own: a few labeled cases in imagesTr and labelsTr, many unlabeled ones in imagesUl.
# Usage: examples/own_data.sh DATASET_ID [CONFIGURATION] [DEVICE]       for example: examples/own_data.sh 101 3d_fullres cuda
# Needs nnUNet_raw, nnUNet_preprocessed and nnUNet_results, and nnUNet_raw/DatasetXXX_Name with dataset.json in it.
set -euo pipefail

dataset="$1"
configuration="${2:-3d_fullres}"
device="${3:-cuda}"
trainer=nnUNetTrainerSemiSAM

nnUNet_extTrainer="$(nnunet-semisam trainers-path)${nnUNet_extTrainer:+:$nnUNet_extTrainer}"
export nnUNet_extTrainer
nnunet-semisam doctor

nnUNetv2_plan_and_preprocess -d "$dataset" -c "$configuration" --verify_dataset_integrity
nnunet-semisam preprocess -d "$dataset" -c "$configuration"
nnUNetv2_train "$dataset" "$configuration" 0 -tr "$trainer" -device "$device"

# A model folder that predicts with stock nnU-Net, also where this package is not installed.
nnunet-semisam export -d "$dataset" -c "$configuration" -tr "$trainer" -f 0 -o "exported_$dataset"
echo "nnUNetv2_predict_from_modelfolder -i IMAGES -o SEGMENTATIONS -m exported_$dataset -f 0"
