"""``python -m wss`` runs the command ``wss``."""

from wss.cli.main import main

main()
