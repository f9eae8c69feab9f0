"""Images: DICOM, PNG, JPEG, TIFF to grey levels in 0..1."""
