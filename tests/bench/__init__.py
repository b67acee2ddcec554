"""The tool and a plain ssh script on the same fleet in turn: `python -m tests.bench`."""
