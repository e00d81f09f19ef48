"""Transport: gRPC with mutual TLS. The only package, besides the client, that knows of gRPC."""
