"""Live and long video: sources that come back, windows in seconds, events with a beginning and an end."""
