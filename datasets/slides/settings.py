"""The parts of recipes that slides need: tissue, tiles, stain."""

from dataclasses import dataclass, field

from ...core.errors import UserError

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
    overview_mpp: float = 8.0
    min_island_um2: float = 50_000.0
    max_hole_um2: float = 50_000.0
    remove_ink: bool = True

    def __post_init__(self):
        if self.method not in TISSUE_METHODS:
            raise UserError(f"tissue.method {self.method!r}: one of {', '.join(TISSUE_METHODS)}.")
        if not self.overview_mpp > 0 or not self.min_island_um2 >= 0 or not self.max_hole_um2 >= 0:
            raise UserError(
                f"tissue.overview_mpp {self.overview_mpp:g}, min_island_um2 {self.min_island_um2:g}, max_hole_um2 "
                f"{self.max_hole_um2:g}: the first above 0, the others not below."
            )
        defaults = type(self).__dataclass_fields__
        tidying = ("overview_mpp", "min_island_um2", "max_hole_um2", "remove_ink")
        ignored = [name for name in tidying if getattr(self, name) != defaults[name].default]
        if self.method == "grey" and ignored:
            raise UserError(f"tissue.{ignored[0]} has no meaning for tissue.method grey; leave it out.")


@dataclass(frozen=True)
class Tiling:
    """How a slide is cut into tiles.

    Attributes:
        tile_um: Side of a tile in microns; 112 in 224 px is 0.5 microns per pixel, nominally 20x.
        tile_px: Side of its image.
        overlap_um: What neighbours share, microns.
        min_tissue: A tile is kept if more than this share of it is tissue.
        tissue: How tissue is found.
    """

    tile_um: float = 112.0
    tile_px: int = 224
    overlap_um: float = 0.0
    min_tissue: float = 0.75
    tissue: Tissue = field(default_factory=Tissue)

    def __post_init__(self):
        if not self.tile_um > 0 or self.tile_px < 1:
            raise UserError(f"tile_um {self.tile_um:g} and tile_px {self.tile_px}: both above 0.")
        if not 0 <= self.overlap_um < self.tile_um:
            raise UserError(f"overlap_um {self.overlap_um:g}: from 0 to below tile_um ({self.tile_um:g}).")
        if not 0 <= self.min_tissue < 1:
            raise UserError(f"min_tissue {self.min_tissue:g}: a share from 0 to below 1.")


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
