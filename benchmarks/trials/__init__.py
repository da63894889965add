"""What `benchmarks/verdicts.py` tries: random problems, planted faults, and the reading of what came out.

- `losses`: every loss of the package, with random data of a given scale.
- `problems`: a random problem from its number, and the claims whose hypotheses hold there by construction.
- `outcomes`: one call of the library, and all that came of it: verdicts, warnings, errors.
- `workers`: calls in other processes, which are stopped where they hang.
- `faults`: mistakes planted in the library, and the claims that can see each.
- `inputs`: right and wrong losses, metrics and manifolds for the three checks.
- `tables`: what is printed and written.
"""
