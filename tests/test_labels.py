"""What we take from nnU-Net's own label manager."""

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_semisam.labels import Labels


def test_classes_of_a_label_manager():
    manager = LabelManager({"background": 0, "RV": 1, "MYO": 2, "ignore": 3}, None)
    layout = Labels.from_label_manager(manager)
    assert (layout.channels, layout.prompt_labels, layout.names) == (2, [1, 2], ["1", "2"])
    probs = np.array([[0.2, 0.5], [0.5, 0.3], [0.3, 0.2]], dtype=np.float32)  # background, RV, MYO; two voxels
    assert layout.label_map(layout.foreground(probs)).tolist() == [1, 0]
    assert layout.members(np.array([0, 1, 2, 1]), 0).tolist() == [False, True, False, True]


def test_classes_that_claim_more_than_one_voxel_has_leave_nothing_to_the_background():
    layout = Labels.from_label_manager(LabelManager({"background": 0, "RV": 1, "MYO": 2}, None))
    assert layout.label_map(np.array([[0.4], [0.9]], dtype=np.float32)).tolist() == [2]


def test_regions_of_a_label_manager_follow_its_class_order():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    layout = Labels.from_label_manager(LabelManager(labels, [1, 2, 3]))
    assert layout.has_regions
    assert layout.regions == ((1, 2, 3), (2, 3), (3,))
    assert layout.prompt_labels == [0, 1, 2]
    assert layout.names == ["1+2+3", "2+3", "3"]
    probs = np.array([[0.9, 0.9, 0.9], [0.1, 0.8, 0.8], [0.1, 0.2, 0.7]], dtype=np.float32)
    label = layout.label_map(layout.foreground(probs))
    assert label.tolist() == [1, 2, 3]
    assert label.dtype == np.int16
    assert layout.members(label, 1).tolist() == [False, True, True]
