"""The server behind ``wss draw``: scribbles drawn in the browser, spread at once, trained on, corrected and exported."""
