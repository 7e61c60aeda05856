from hypothesis import HealthCheck, settings

# The same examples on every run, and no time limits: a busy machine is not a fault.
settings.register_profile(
    "graphs",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("graphs")
