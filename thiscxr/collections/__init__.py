"""The collections that `prepare` reads, by flag name."""

from thiscxr.collections.chexpert import CHEXPERT
from thiscxr.collections.collection import FRONTAL_VIEWS, Collection, find_files
from thiscxr.collections.folder import FOLDER
from thiscxr.collections.kermany import KERMANY
from thiscxr.collections.mimic import MIMIC
from thiscxr.collections.nih import NIH
from thiscxr.collections.openi import OPENI
from thiscxr.collections.padchest import PADCHEST
from thiscxr.collections.rsna import RSNA
from thiscxr.collections.vindr import VINDR

COLLECTIONS: dict[str, Collection] = {
    collection.key: collection for collection in (NIH, CHEXPERT, MIMIC, PADCHEST, OPENI, VINDR, RSNA, KERMANY, FOLDER)
}

__all__ = ["COLLECTIONS", "FRONTAL_VIEWS", "Collection", "find_files"]
