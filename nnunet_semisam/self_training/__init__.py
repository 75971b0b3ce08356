"""Self-training: train, label the pool, train again from scratch on both, for some rounds. Stock nnU-Net throughout.

A round after the first has a dataset of its own: the labeled cases with their labels, the pool with pseudo-labels in
which every voxel that the teacher is not sure of has nnU-Net's ``ignore`` label. Folds and plans are those of the
dataset that it began with.

===================  =============================================================================
module               content
===================  =============================================================================
``plan``             :class:`SelfTraining`: what is fixed once it has begun, and its record on disk
``rounds``           folders of a round; which tasks there are, in which order
``tasks``            train, calibrate, label, build: tasks that can be killed, on this machine or a cluster
``teacher``          a trained model that predicts raw images
``sam_calibration``  the command that measures where SAMs help a teacher; ``calibration_record`` is what it writes
``label_pool``       the command that predicts the pool with a teacher
``sam_labels``       what SAMs add to a teacher's label
``pseudo_label``     from probabilities to a label map, and how good it may be
``build_dataset``    the command that writes the dataset of a round
``raw_dataset``      its raw part
``preprocessed``     its preprocessed part, by nnU-Net's own preprocessor
===================  =============================================================================
"""
