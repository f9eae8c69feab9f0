"""The way to a PACS and back: DICOMweb as a client, and a listener for senders of the classical network."""
