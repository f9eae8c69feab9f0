"""The 3-D baseline networks of the ERDES paper."""
