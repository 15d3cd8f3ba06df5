"""Programs that show what agentmem does; each is run as `python -m demos.NAME` from a checkout."""
