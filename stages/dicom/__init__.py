"""Results of a prediction as DICOM objects, for a PACS: report, segmentation, parametric map, capture, document."""
