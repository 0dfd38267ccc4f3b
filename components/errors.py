"""What went wrong, told to the user in one sentence that names the thing and the fix."""


class UserError(ValueError):
    """A mistake of the user's: a path, a setting, an input. Its message is the whole report; no traceback is shown."""

    exit_code = 2
