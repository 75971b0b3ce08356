"""The unlabeled stream: preprocessing, geometry, data set, views and loader; and the files of a raw dataset."""
