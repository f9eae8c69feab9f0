"""The thorax task: several findings on chest X-rays."""
