"""Generated code of the wire API; see proto/."""
