"""DICOM slides drawn for tests: levels and label of one series, as scanners write them."""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE = 64


def write_instance(
    path: Path, pixels: np.ndarray, series: str, *, flavour: str = "VOLUME", mpp: float = 0.5, **elements
) -> Path:
    """Write one level of (h, w, 3) uint8, tiled in full, without compression."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % TILE), (0, -width % TILE), (0, 0)), constant_values=255)
    rows, columns = padded.shape[0] // TILE, padded.shape[1] // TILE
    tiles = padded.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "SM", series, "1.2.3"
    dataset.FrameOfReferenceUID, dataset.ContainerIdentifier = "1.2.3.4", "C"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = width, height
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    measures, group = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    group.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = rows * columns, TILE, TILE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = tiles.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_dicom_slide(folder: Path, name: str, pixels: np.ndarray, *, suffix: str = ".dcm", **elements) -> list[Path]:
    """Write two levels and a label of a slide: `<name>_0`, `<name>_1` and `<name>_label`; the second is the larger."""
    series = generate_uid()
    small, label = pixels[::4, ::4], np.full((64, 64, 3), 200, np.uint8)
    return [
        write_instance(folder / f"{name}_0{suffix}", small, series, mpp=2.0, **elements),
        write_instance(folder / f"{name}_1{suffix}", pixels, series, **elements),
        write_instance(folder / f"{name}_label{suffix}", label, series, flavour="LABEL", **elements),
    ]
