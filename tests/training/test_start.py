"""How a training says what its user mistook."""

from __future__ import annotations

import sys

from nnunet_semisam.errors import UserError
from nnunet_semisam.training.start import say_user_errors_in_a_line


def test_a_user_error_that_ends_a_training_is_one_line_and_others_keep_their_traceback(monkeypatch, capsys):
    others = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: others.append(error))
    say_user_errors_in_a_line()
    hook = sys.excepthook
    say_user_errors_in_a_line()
    assert sys.excepthook is hook, "set once, however many trainers are built"
    sys.excepthook(UserError, UserError("There is no fold 7."), None)
    assert capsys.readouterr().err == "nnunet-semisam: There is no fold 7.\n"
    bug = KeyError("a bug")
    sys.excepthook(KeyError, bug, None)
    assert others == [bug]
