"""The exceptions that clipjax raises for things a user can mend.

Every message is one line that says what was wrong, where, and what would fix it; the
command line prints it and exits with status 2.
"""


class ClipjaxError(Exception):
    """The root of the tree: catch this one to catch every mistake that has a remedy."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class CheckpointError(ClipjaxError):
    """A checkpoint that cannot be read as CLIP weights, or cannot be written in the format asked for."""


class ConfigError(ClipjaxError):
    """A model or run configuration that contradicts itself or its weights."""


class DataError(ClipjaxError):
    """Images, labels, class names or texts that cannot be used as they are."""


class OutputError(ClipjaxError):
    """A result that cannot be written: it exists already, the disk is full, the place is not writable."""


class TrainingError(ClipjaxError):
    """A run that cannot go on: it diverged, or its directory belongs to another run."""


class Diverged(TrainingError):
    """A stage gave no finite loss and gradient for too long; other settings may do."""


class Stopped(ClipjaxError):
    """A run that was asked to stop, saved its state and goes on when it is started again."""
