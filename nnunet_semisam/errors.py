"""The error that console commands print without a traceback: the user can mend it."""


class UserError(ValueError):
    """Bad input or a missing step: the message says what we got, what is allowed and what to do."""
