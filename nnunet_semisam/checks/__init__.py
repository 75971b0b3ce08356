"""What would stop a training, at its start or days later, found before it begins; nothing is written.

``nnunet-semisam doctor -d ID`` shows all findings; ``nnunet-semisam benchmark`` refuses to begin if one stops it.

==================  ==================================================================================================
module              content
==================  ==================================================================================================
``findings``        :class:`Finding`: a line of a report
``dataset``         :class:`DatasetCheck`: all checks of one training, each thing looked at once
``plans``           what the plans say, and the network that they describe, on no device
``raw``             names and ``dataset.json`` of a dataset that is not planned yet
``preprocessed``    the files of labeled and unlabeled cases
``stage``           generalists: names, weights, channel, geometry
``trainers``        trainer classes, searched for in a process of its own
``places``          folders that are to be written: writable, room, in nobody's data
==================  ==================================================================================================
"""
