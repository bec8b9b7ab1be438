"""Counts checks and prints one line with figures for each."""
import sys


class Results:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.prefix = ""

    def check(self, name, ok, figures=""):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(f"{'ok    ' if ok else 'FAILED'} {self.prefix}{name}" + (f": {figures}" if figures else ""))
        sys.stdout.flush()
        return ok

    def skip(self, name, why):
        self.skipped += 1
        print(f"skipped {self.prefix}{name}: {why}")

    def close(self, name, got, want, limit, floor=0.0):
        """Largest difference over the largest wanted value (or `floor`, if that is larger)."""
        if tuple(got.shape) != tuple(want.shape):
            return self.check(name, False, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
        error, top = relative(got, want, floor)
        return self.check(name, error <= limit, f"error {error:.2e} of {top:.3g} (limit {limit:g})")

    def equal(self, name, got, want):
        if got == want:
            return self.check(name, True, "equal")
        at = ""
        if isinstance(got, list) and isinstance(want, list) and len(got) == len(want):
            first = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
            got, want, at = got[first], want[first], f"at {first}: "
        return self.check(name, False, f"{at}got {shorten(got)}, expected {shorten(want)}")


def relative(got, want, floor=0.0):
    got, want = got.double(), want.double()
    top = max(float(want.abs().max()), floor)
    error = float((got - want).abs().max())
    return (error / top if top else error) if error == error else float("inf"), top


def shorten(x):
    s = str(x)
    return s if len(s) < 300 else s[:300] + "…"
