"""Transport identity: certificates for members and gateways, their reload, TLS 1.3."""
