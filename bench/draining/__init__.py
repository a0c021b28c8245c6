"""The parts of `bench drain`: the target, the backlog, the two sides and what they say."""
