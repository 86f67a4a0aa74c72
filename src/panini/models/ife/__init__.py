"""Image feature extraction (IFE): features of the damaged picture at the resolutions where DAFI needs them."""

from panini.models.ife.rrdb import RRDBExtractor
from panini.models.ife.trunk import TrunkExtractor

__all__ = ["RRDBExtractor", "TrunkExtractor"]
