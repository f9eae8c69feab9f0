"""The stages of every task, one file each: they know the rooms and the `Task` protocol, never a task."""
