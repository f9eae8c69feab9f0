"""What every room rests on: errors, atomic files, locks, the platform."""
