"""Where text and image rows lie in a joint sequence: built from token counts, never from a fixed order."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadModel


@dataclass(frozen=True)
class TokenRows:
    """Two slices of a joint sequence, with concrete bounds and step 1; rows in neither belong to nobody.

    text   the prompt's rows; empty where a call holds image rows alone
    image  the rows of the picture that is being drawn, not those of reference latents behind them
    """

    text: slice
    image: slice

    def __post_init__(self) -> None:
        for name, rows in (("text", self.text), ("image", self.image)):
            if not (isinstance(rows.start, int) and isinstance(rows.stop, int) and 0 <= rows.start <= rows.stop):
                raise BadModel(
                    f"the {name} rows are {rows}",
                    "a start and a stop counted from the first row were expected",
                    "build the rows from the model's token counts",
                )

    @classmethod
    def text_first(cls, text_count: int, image_count: int) -> TokenRows:
        """[text; image]: Flux, SD3 and Qwen-Image in ComfyUI."""
        return cls(slice(0, text_count), slice(text_count, text_count + image_count))

    @classmethod
    def image_first(cls, text_count: int, image_count: int) -> TokenRows:
        """[image; text]: SD3 in diffusers, and any host that puts the picture first."""
        return cls(slice(image_count, image_count + text_count), slice(0, image_count))

    @classmethod
    def image_only(cls, image_count: int) -> TokenRows:
        """The image stream of a double block, without the prompt."""
        return cls.text_first(0, image_count)

    @property
    def text_count(self) -> int:
        """Number of text rows."""
        return self.text.stop - self.text.start

    @property
    def image_count(self) -> int:
        """Number of image rows."""
        return self.image.stop - self.image.start
