"""One error tree. Every message says what came, what was expected and what to do.

PackError
|-- BadSettings       a number or choice that cannot work
|-- BadPicture        a picture or folder that cannot be read
|-- SpanNotFound      a word is not where the prompt should hold it
|-- PromptTooLong     more tokens than the text encoder takes
|-- BadLayers         a layer text or layer list that names nothing
|-- BadConcept        a concept file that is damaged, foreign or made for another model
|-- BadAdapter        an image prompt adapter that is damaged, foreign or made for another model
|-- BadModel          a model that the method cannot be used with
|-- TrainingDiverged  the loss is no longer a number
`-- NotSaved          a file that could not be written
"""

from __future__ import annotations


class PackError(Exception):
    """Base of all errors of the pack: three facts in one sentence."""

    def __init__(self, came: str, expected: str, do: str) -> None:
        super().__init__(f"{came}; {expected}; {do}")
        self.came, self.expected, self.do = came, expected, do


class BadSettings(PackError):
    """A number or choice that cannot work."""


class BadPicture(PackError):
    """A picture or folder that cannot be read."""


class SpanNotFound(PackError):
    """A word is not where the prompt should hold it."""


class PromptTooLong(PackError):
    """More tokens than the text encoder takes."""


class BadLayers(PackError):
    """A layer text or layer list that names nothing."""


class BadConcept(PackError):
    """A concept file that is damaged, foreign or made for another model."""


class BadAdapter(PackError):
    """An image prompt adapter that is damaged, foreign or made for another model."""


class BadModel(PackError):
    """A model that the method cannot be used with."""


class TrainingDiverged(PackError):
    """The loss is no longer a number."""


class NotSaved(PackError):
    """A file that could not be written."""
