"""placeholder"""


def demo(out, seed=0):
    """placeholder"""
