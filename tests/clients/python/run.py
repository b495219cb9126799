"""Runs the tests named as arguments, or all; the last line counts."""

import sys
import unittest
from pathlib import Path

here = Path(__file__).parent
names = [f"test_{name}" for name in sys.argv[1:]] or sorted(path.stem for path in here.glob("test_*.py"))
tests = unittest.defaultTestLoader.loadTestsFromNames(names)
# A class that could not start counts as one failure.
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests)
failed = len({test.id() for test, _ in result.failures + result.errors if test is not None})
print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed")
sys.exit(failed > 0 or result.testsRun == 0)
