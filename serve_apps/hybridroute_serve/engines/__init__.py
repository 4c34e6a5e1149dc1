"""What runs the small model: engines that serve OpenAI's HTTP interface on loopback. The SLM app uses them."""
