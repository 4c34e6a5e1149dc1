"""What routing, scope and drift are worth on somebody's data, beside baselines on identical splits."""
