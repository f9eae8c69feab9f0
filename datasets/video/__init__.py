"""Clips: video files, GIFs, multi-frame DICOM and folders of frames."""
