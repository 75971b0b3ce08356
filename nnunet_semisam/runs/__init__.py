"""One model of nnU-Net: its own commands for training and prediction, in a folder of their own.

===================  ==============================================================================
module               content
===================  ==============================================================================
``model_run``        :class:`ModelRun`: train (and go on where it was killed), predict
``shared_settings``  the settings of several trainings, from a yaml file
``measured``         runs one of the commands and writes down time, memory, machine and software
``attempts``         what ``measured`` writes: a record for every start
``versions``         the software and the environment that a number rests on
===================  ==============================================================================
"""
