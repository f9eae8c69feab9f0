"""Tables of cases, and their pixels: reading, caching, augmenting and loading of images, clips and slides."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from .images.dicom_header import dicom_facts as dicom_facts
    from .images.radiographs import read_radiograph as read_radiograph
    from .loading.cache import Files as Files
    from .loading.cache import PixelCache as PixelCache
    from .loading.cache import build_cache as build_cache
    from .loading.loaders import Cases as Cases
    from .loading.loaders import TrainBatches as TrainBatches
    from .loading.loaders import eval_loader as eval_loader
    from .loading.loaders import train_loader as train_loader
    from .loading.readers import ClipReader as ClipReader
    from .loading.readers import ImageReader as ImageReader
    from .loading.readers import VolumeReader as VolumeReader
    from .loading.readers import make_reader as make_reader
    from .manifest.splits import assign_splits as assign_splits
    from .manifest.splits import patient_folds as patient_folds
    from .manifest.tables import Manifest as Manifest
    from .manifest.tables import Predictions as Predictions
    from .manifest.tables import predictions_table as predictions_table
    from .manifest.tables import read_manifest as read_manifest
    from .manifest.tables import read_predictions as read_predictions
    from .manifest.tables import write_manifest as write_manifest
    from .manifest.tables import write_predictions as write_predictions
    from .quality.check import check_manifest as check_manifest
    from .settings import Clip as Clip
    from .settings import Data as Data
    from .slides.reading import open_slide as open_slide
    from .transforms.augment import Augment as Augment
    from .transforms.augment import build_eval as build_eval
    from .transforms.augment import build_train as build_train
    from .transforms.multi_crop import MultiCrop as MultiCrop
    from .transforms.multi_crop import MultiCropView as MultiCropView
    from .transforms.views import EvalView as EvalView
    from .transforms.views import TrainView as TrainView
    from .video.clips import open_clip as open_clip
    from .video.clips import read_clip as read_clip

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".settings": "Clip Data",
        ".manifest.tables": "Manifest Predictions predictions_table read_manifest read_predictions write_manifest "
        "write_predictions",
        ".manifest.splits": "assign_splits patient_folds",
        ".images.radiographs": "read_radiograph",
        ".images.dicom_header": "dicom_facts",
        ".video.clips": "open_clip read_clip",
        ".slides.reading": "open_slide",
        ".loading.readers": "ClipReader ImageReader VolumeReader make_reader",
        ".loading.cache": "Files PixelCache build_cache",
        ".loading.loaders": "Cases TrainBatches eval_loader train_loader",
        ".transforms.augment": "Augment build_eval build_train",
        ".transforms.multi_crop": "MultiCrop MultiCropView",
        ".transforms.views": "EvalView TrainView",
        ".quality.check": "check_manifest",
    },
)
