"""``python -m wss`` is the ``wss`` command."""

from wss.cli.main import main

main()
