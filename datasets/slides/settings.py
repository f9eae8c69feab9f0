"""The parts of recipes that slides need: tissue, tiles, stain."""

from dataclasses import dataclass, field

from ...core.errors import UserError
from ...core.ranges import check_ranges, within

TISSUE_METHODS = ("saturation", "grey")
STAIN_METHODS = ("none", "macenko", "reinhard")
STAIN_SCOPES = ("slide", "tile")


@dataclass(frozen=True)
class Tissue:
    """How tissue is separated from glass.

    Attributes:
        method: `saturation` (Otsu on the HSV saturation, ink removed, holes and islands tidied) or `grey`
            (Self-ViT-MIL: the share of a tile's own pixels below Otsu's threshold of an overview shrunk 256 times,
            nothing tidied; every tile of the slide is read for it).
        overview_mpp: Microns per pixel of the overview that `saturation` looks at.
        min_island_um2: Smaller pieces of tissue are left out, square microns.
        max_hole_um2: Smaller holes in tissue are filled, square microns.
        remove_ink: Leave out green, blue and black ink and black borders. What has such a colour, lies within tissue
            and is much of it is taken for a stain (Masson, methyl green, alcian blue, Giemsa) and kept, which the
            status says; false where black pigment or little of a green or blue dye belongs to the tissue.
    """

    method: str = "saturation"
    overview_mpp: float = field(default=8.0, metadata=within(0, exclude="low"))
    min_island_um2: float = field(default=50_000.0, metadata=within(0))
    max_hole_um2: float = field(default=50_000.0, metadata=within(0))
    remove_ink: bool = True

    def __post_init__(self):
        check_ranges(self, "tissue")
        if self.method not in TISSUE_METHODS:
            raise UserError(f"tissue.method {self.method!r}: one of {', '.join(TISSUE_METHODS)}.")
        defaults = type(self).__dataclass_fields__
        tidying = ("overview_mpp", "min_island_um2", "max_hole_um2", "remove_ink")
        ignored = [name for name in tidying if getattr(self, name) != defaults[name].default]
        if self.method == "grey" and ignored:
            raise UserError(f"tissue.{ignored[0]} has no meaning for tissue.method grey; leave it out.")


@dataclass(frozen=True)
class Quality:
    """Which tiles are spoilt, by what, and which are left out for it; without any of these nothing is measured.

    Sharpness and shares are columns of the tile files, and of `quality/<id>.csv` with the tiles that were left out.
    Every tile is read once for them. What they are stands in `datasets/slides/quality.py`.

    Attributes:
        measure: Write the columns, without leaving a tile out by itself.
        min_sharpness: A tile is left out as blurred or out of focus if the variance of its Laplacian is lower, squared
            grey levels at `tile_px`; 100 is usual at 0.5 microns per pixel, and depends on scanner and stain.
        max_fold: A tile is left out as folded if more than this share of it is as dark and saturated as a fold.
        max_pen: As marked by a pen, if more than this share of it has the colour of ink (green, blue, black).
        max_bubble: As under an air bubble, if more than this share of it lies within a round dark rim.
    """

    measure: bool = False
    min_sharpness: float | None = field(default=None, metadata=within(0))
    max_fold: float | None = field(default=None, metadata=within(0, 1))
    max_pen: float | None = field(default=None, metadata=within(0, 1))
    max_bubble: float | None = field(default=None, metadata=within(0, 1))

    def __post_init__(self):
        check_ranges(self, "quality")

    @property
    def asked(self) -> bool:
        """Return whether tiles are to be measured."""
        limits = self.min_sharpness, self.max_fold, self.max_pen, self.max_bubble
        return self.measure or any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Tiling:
    """How a slide is cut into tiles.

    Attributes:
        tile_um: Side of a tile in microns; 112 in 224 px is 0.5 microns per pixel, nominally 20x.
        tile_px: Side of its image.
        overlap_um: What neighbours share, microns.
        min_tissue: A tile is kept if more than this share of it is tissue.
        tissue: How tissue is found.
        quality: Which tiles are left out as spoilt.
    """

    tile_um: float = field(default=112.0, metadata=within(0, exclude="low"))
    tile_px: int = field(default=224, metadata=within(1))
    overlap_um: float = field(default=0.0, metadata=within(0))
    min_tissue: float = field(default=0.75, metadata=within(0, 1, exclude="high"))
    tissue: Tissue = field(default_factory=Tissue)
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self):
        check_ranges(self)
        if self.overlap_um >= self.tile_um:
            raise UserError(f"overlap_um {self.overlap_um:g}: from 0 to below tile_um ({self.tile_um:g}).")


@dataclass(frozen=True)
class Stain:
    """How stains are normalised.

    Attributes:
        method: `none`, `macenko` (with the references of Self-ViT-MIL) or `reinhard`.
        scope: `slide` (one estimate from tiles of all its tissue) or `tile` (each by itself, as Self-ViT-MIL does:
            a tile with little of one stain comes out garish, and one without stain fails).
    """

    method: str = "none"
    scope: str = "slide"

    def __post_init__(self):
        if self.method not in STAIN_METHODS:
            raise UserError(f"stain.method {self.method!r}: one of {', '.join(STAIN_METHODS)}.")
        if self.scope not in STAIN_SCOPES:
            raise UserError(f"stain.scope {self.scope!r}: one of {', '.join(STAIN_SCOPES)}.")
        if self.method == "none" and self.scope != "slide":
            raise UserError(f"stain.scope {self.scope} has no meaning without a stain.method; leave it out.")
