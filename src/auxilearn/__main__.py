"""``python -m auxilearn`` and the command ``auxilearn``."""

from auxilearn._extras import require


def main() -> None:
    """Run the command line, or say which extra it needs.

    Raises:
        SystemExit: With that message, if the extra is missing.
    """
    try:
        for module in ("typer", "rich"):
            require(module, extra="experiments")
    except ImportError as error:
        raise SystemExit(f"auxilearn: {error}") from None
    from auxilearn.cli import app

    app()


if __name__ == "__main__":
    main()
