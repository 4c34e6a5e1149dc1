"""HybridRoute → Kubernetes objects, pure and deterministic. `render_objects` in `objects` is the entry."""
