"""The ocular-ultrasound task: retinal detachment, and the macula in it (ERDES)."""
