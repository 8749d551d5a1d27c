"""``python -m authsec_sdk.cli`` is ``authsec``."""

from authsec_sdk.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
