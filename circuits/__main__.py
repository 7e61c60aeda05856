"""``python -m circuits``: the command line."""

from circuits.cli.app import app

if __name__ == "__main__":
    app(prog_name="circuits")
