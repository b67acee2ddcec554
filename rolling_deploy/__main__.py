"""`python -m rolling_deploy` is the same as `rolling-deploy`."""

from rolling_deploy.cli import main

main()
