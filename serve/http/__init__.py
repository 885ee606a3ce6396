"""An HTTP server for bundles: videos come in from many clients, and are classified in batches."""
