"""A command that prints until its reader goes away."""


def configure(parser):
    """No arguments."""


def run(args):
    """Never returns by itself."""
    while True:
        print("line", flush=True)
