"""The parts of `bench drain`: the target, the deployment, the hub's side and the bare loop."""
