"""The console scripts: one thin file a command."""
