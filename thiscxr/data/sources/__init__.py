"""The collections that `prepare` reads, by flag name."""

from thiscxr.data.sources.chexpert import CHEXPERT
from thiscxr.data.sources.collection import FRONTAL_VIEWS, Collection, find_files
from thiscxr.data.sources.folder import FOLDER
from thiscxr.data.sources.mimic import MIMIC
from thiscxr.data.sources.nih import NIH
from thiscxr.data.sources.openi import OPENI
from thiscxr.data.sources.padchest import PADCHEST
from thiscxr.data.sources.rsna import RSNA
from thiscxr.data.sources.vindr import VINDR

COLLECTIONS: dict[str, Collection] = {
    collection.key: collection for collection in (NIH, CHEXPERT, MIMIC, PADCHEST, OPENI, VINDR, RSNA, FOLDER)
}

__all__ = ["COLLECTIONS", "FRONTAL_VIEWS", "Collection", "find_files"]
