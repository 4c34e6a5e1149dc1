"""The operator: one level-based loop that turns HybridRoutes into Ray Serve on KubeRay.

`reconcile` is the loop's body, `plan` and `status` its pure parts, `cluster` its only way to an API server,
`handlers` its only acquaintance with kopf.
"""
